"""A disk that is full at the n-th write, for every n: a clear error, whole files, and then the same end as without."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import SafetensorError
from safetensors.torch import save_file
from typer.testing import CliRunner

from polytask import Recipe, load, storage
from polytask.cli.app import app
from polytask.errors import StorageError
from polytask.serving import export as exporting
from polytask.serving.streaming import predict_file
from polytask.storage import is_half, load_tree
from polytask.study import Protocol, Study

pytest.importorskip("pyarrow")

PROGRAM = Path(__file__).parents[2] / "bench" / "full_disk.py"
QUICK = {"name": "tabular", "width": 4, "n_blocks": 1, "embedding_width": 2}


def save_tensors(save, tensors, path, **options):
    """As safetensors does it on a full disk; it makes a file of its own, so that it never sees /dev/full."""
    if Path(path).is_symlink():
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    save(tensors, path, **options)


class Disk:
    """Fails at the n-th of what can fail: a new file, its content, its way to the disk, its name, its folder.

    The content fails as the kernel makes it fail: the file is ``/dev/full`` in disguise, whoever writes to it.
    """

    def __init__(self, patch: pytest.MonkeyPatch):
        self.fails_at, self.count = 0, 0
        patch.setattr("safetensors.torch.save_file", partial(save_tensors, save_file))
        self.mkstemp, self.fsync, self.replace, self.opened = (
            storage.tempfile.mkstemp,
            os.fsync,
            Path.replace,
            Path.open,
        )
        patch.setattr(storage.tempfile, "mkstemp", self._make)
        patch.setattr(os, "fsync", self._flush)
        patch.setattr(Path, "replace", lambda path, to: self._now() or self.replace(path, to))
        patch.setattr(Path, "open", lambda path, mode="r", *args, **options: self._open(path, mode, *args, **options))

    def _now(self) -> None:
        self.count += 1
        if self.count == self.fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _make(self, **where):
        self._now()
        handle, name = self.mkstemp(**where)
        self.count += 1
        if self.count == self.fails_at:
            Path(name).unlink()
            Path(name).symlink_to("/dev/full")
        return handle, name

    def _flush(self, handle):
        self._now()
        self.fsync(handle)

    def _open(self, path, mode, *args, **options):
        file = self.opened(path, mode, *args, **options)
        if mode == "a":
            self.count += 1
            if self.count == self.fails_at:  # half of the line is on the disk already
                write = file.write

                def half(text):
                    write(text[: len(text) // 2])
                    file.flush()
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

                file.write = half
        return file


def table(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    return pd.DataFrame(
        {"a": x[:, 0], "b": x[:, 1], "price": x[:, 0] + x[:, 1], "ill": np.where(x[:, 1] > 0, "y", "n")}
    )


RECIPE = {
    "tasks": {"price": "regression", "ill": "binary"},
    "encoder": QUICK,
    "training": {"epochs": 2, "batch_size": 16, "checkpoint_seconds": 0.0},
}


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    Recipe(**RECIPE).run(table(), out=folder / "run")
    table(50).drop(columns=["price", "ill"]).to_csv(folder / "many.csv", index=False)
    return folder


def fit(given: Path, out: Path):
    run = Recipe(**RECIPE).run(table(), out=out / "run", resume=True)
    history = [{key: value for key, value in line.items() if key != "seconds"} for line in run.history]
    return history, sorted((k, v.tolist()) for k, v in run.bundle.models[0].model.state_dict().items())


def study(given: Path, out: Path):
    record = Study(
        table(), ["price", "ill"], arms=["linear"], protocol=Protocol(folds=2), out=out / "run", resume=True
    ).run()
    return {arm: result.error for arm, result in record.arms.items()}, record.folds


def predictions(given: Path, out: Path):
    predict_file(load(given / "run"), given / "many.csv", out / "answers.csv", piece=20, resume=True)
    return (out / "answers.csv").read_bytes()


def predictions_as_parquet(given: Path, out: Path):
    predict_file(load(given / "run"), given / "many.csv", out / "answers.parquet", piece=20, resume=True)
    return pd.read_parquet(out / "answers.parquet").to_csv()


def graph(given: Path, out: Path):
    if (out / "graph" / "graph.pt2").exists():  # only the flushing of its folder failed
        return (out / "graph" / "graph.pt2").read_bytes(), (out / "graph" / "graph.json").read_bytes()
    made = exporting.export(load(given / "run"), out / "graph", "torch")
    return made.graph.read_bytes(), made.about.read_bytes()


def check_whole(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not is_half(path), "what could not be written whole was left"
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors" or path.name == "checkpoint":
            load_tree(path)
    if (folder / "run" / "bundle" / "bundle.json").exists():
        load(folder / "run")


@pytest.mark.parametrize(
    ("job", "every", "fewest"),
    [(fit, 1, 35), (study, 7, 40), (predictions, 1, 25), (predictions_as_parquet, 2, 25), (graph, 1, 10)],
)
def test_full_at_every_write(job, every, fewest, given, tmp_path, monkeypatch):
    if job is graph:  # the same graph each time, as making one takes seconds and is not what is written
        monkeypatch.setattr(exporting, "as_file", lambda *_: b"graph")
        monkeypatch.setattr(exporting, "run", lambda path, rows: [])
        monkeypatch.setattr(exporting, "largest_difference", lambda *_: 0.0)
    disk = Disk(monkeypatch)
    expected = job(given, tmp_path / "undisturbed")
    n_writes = disk.count
    assert n_writes >= fewest
    for n in range(1, n_writes + 1, every):
        out = tmp_path / str(n)
        disk.count, disk.fails_at = 0, n
        with pytest.raises(
            StorageError, match=r"^Cannot write \S+: .*No space left on device.* MB are free in"
        ) as told:
            job(given, out)
        assert str(out) in str(told.value), n
        assert "\n" not in str(told.value)
        disk.fails_at = 0
        check_whole(out)
        assert job(given, out) == expected, f"write {n} of {n_writes}"
        check_whole(out)


def test_the_command_line_ends_with_status_2_and_one_line(given, tmp_path, monkeypatch):
    disk = Disk(monkeypatch)
    table().to_csv(tmp_path / "data.csv", index=False)
    command = [
        "fit",
        str(tmp_path / "data.csv"),
        "--targets",
        "price,ill",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    disk.fails_at = 14
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"polytask: Cannot write {tmp_path}")
    disk.fails_at = 0
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 0


@pytest.mark.slow
def test_disks_that_are_full_and_read_only_in_earnest():
    """Disks in memory, where the kernel lets this process have some."""
    able = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True)
    if able.returncode:
        pytest.skip("this system gives no mounts of its own: the tests above stand in for them")
    command = [sys.executable, str(PROGRAM), "--step", "9", "--jobs", "0", "7", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) == 2
    assert all(found["full"] for found in told.values())
