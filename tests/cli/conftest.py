from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polytask.cli import main


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def polytask(monkeypatch, capsys):
    """The command line, in this process; gives the exit status and both streams."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["polytask", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Answer(stop.value.code or 0, out, err)

    return call


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    return pd.DataFrame(
        {
            "length": x[:, 0],
            "width": x[:, 1],
            "colour": rng.choice(["red", "green"], 60),
            "price": x @ [1.0, 2.0] + rng.normal(size=60),
            "ill": np.where(x[:, 0] + rng.normal(size=60) > 0, "yes", "no"),
        }
    )


@pytest.fixture
def csv(frame, tmp_path) -> Path:
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    return path
