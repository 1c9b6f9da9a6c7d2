"""A training by two workers of Ray Train: bit for bit the one by two processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import load
from polytask.errors import PolytaskError, RecipeError, TrainingError
from polytask.training.on_ray import OnRay, _refusal

COMMAND = ["fit", "t.csv", "--targets", "price:regression,ill:binary", "--encoder", "mlp", "--balancer", "nash_mtl"]
COMMAND += ["--epochs", "2", "--processes", "2", "--set", "encoder.widths=[8, 6]", "--constraint", "price.loss<=0.5"]


def fit(folder: Path, *more: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, "-m", "polytask", *COMMAND, *more],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode in (0, 3), done.stderr  # 3: the constraint is not kept
    return done.stdout


def test_two_workers_train_what_two_processes_train(tmp_path):
    if find_spec("ray") is None:
        pytest.skip("needs the extra 'ray'")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(90, 3)), columns=list("abc"))
    table["price"] = (table["a"] - table["b"]).where(rng.random(90) < 0.6)
    table["ill"] = np.where(table["c"] > 0, "yes", "no")
    table.to_csv(tmp_path / "t.csv", index=False)
    fit(tmp_path, "--out", "local")
    said = fit(tmp_path, "--out", "ray", "--engine", "ray")
    assert "Trained by 2 processes" in said
    one, other = (load(tmp_path / name).models[0].model.state_dict() for name in ("local", "ray"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "local", "ray"}  # and nothing of Ray's own


class Wrapped(Exception):
    """As Ray hands on what a worker raised."""

    def __init__(self, error: BaseException):
        self._base_exc = error


def test_what_a_process_refused_is_said_and_not_that_others_lost_it():
    lost = TrainingError("Rank 0 of 2 lost another process, which ended before it was done; ...")
    refused = RecipeError("There is no column 'agee'.")
    assert _refusal({0: Wrapped(lost), 1: Wrapped(refused)}, 2) is refused
    assert _refusal({0: Wrapped(lost)}, 2) is lost
    died = _refusal({1: RuntimeError("The actor died.\nIts log: ...")}, 2)
    assert isinstance(died, TrainingError)
    assert str(died).startswith("Rank 1 of 2 on Ray ended by RuntimeError: The actor died. Nothing was written")
    with pytest.raises(PolytaskError, match="at least 1 process"):
        OnRay(processes=0)
