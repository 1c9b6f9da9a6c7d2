"""Several processes from the command line: one of them dies, torchrun goes on, and accelerators share a training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from several_processes import table

from polytask import load
from polytask.errors import RecipeError

COMMAND = ["fit", "t.csv", "--targets", "price:regression,ill:binary", "--encoder", "mlp", "--balancer", "nash_mtl"]


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    environment = {**kept, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def n_lines(folder: Path) -> int:
    return (folder / "run" / "history.jsonl").read_text().count("\n")


def wait_until(process: subprocess.Popen, is_there) -> None:
    """However busy the machine is; a process that ends before is a failure."""
    deadline = time.monotonic() + 300
    while not is_there():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds child processes in /proc")
def test_a_dead_process_ends_all_and_torchrun_goes_on(tmp_path):
    table(400).to_csv(tmp_path / "t.csv", index=False)
    long = [
        *COMMAND,
        "--epochs",
        "100000",
        "--out",
        "run",
        "--set",
        "training.patience=null",
        "--set",
        "training.checkpoint_seconds=0.0",
    ]
    parent = start(["-m", "polytask", *long, "--processes", "2"], tmp_path)
    wait_until(parent, (tmp_path / "run" / "checkpoint").exists)
    os.kill(children(parent.pid)[1], signal.SIGKILL)
    _, error = parent.communicate(timeout=300)
    assert parent.returncode == 2
    assert "polytask: Rank 1 of 2 was ended by SIGKILL, so all of them were." in error
    assert "Traceback" not in error
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone"]
    lines = n_lines(tmp_path)
    again = start([*torchrun, "-m", "polytask", *long, "--resume"], tmp_path)
    wait_until(again, lambda: n_lines(tmp_path) > lines + 3)
    os.kill(again.pid, signal.SIGTERM)  # torchrun passes it on to its processes, which finish the step and save
    _, error = again.communicate(timeout=300)
    assert "Interrupted after step" in error
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == list(range(len(history)))


def fitted(folder: Path, name: str, *more: str) -> dict[str, torch.Tensor]:
    """The parameters after a training by the command line."""
    train = ["--epochs", "3", "--set", "training.patience=null", "--set", "encoder.dropout=0", "--out", name]
    process = start(["-m", "polytask", *COMMAND, *train, *more], folder)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return {k: v.cpu() for k, v in load(folder / name).models[0].model.state_dict().items()}


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two accelerators")
def test_two_accelerators_end_like_one(tmp_path):
    table(400).to_csv(tmp_path / "t.csv", index=False)
    both, one = (fitted(tmp_path, f"by-{n}", "--processes", n, "--set", "training.device=cuda") for n in ("2", "1"))
    for key, value in one.items():
        torch.testing.assert_close(both[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_an_accelerator_ends_near_full(tmp_path, precision):
    table(400).to_csv(tmp_path / "t.csv", index=False)
    device = ("--set", "training.device=cuda")
    half, full = (
        fitted(tmp_path, "half", *device, "--set", f"training.precision={precision}"),
        fitted(tmp_path, "full", *device),
    )
    for key, value in full.items():
        torch.testing.assert_close(half[key], value, rtol=0.1, atol=0.05)


def test_what_processes_cannot_share_is_refused(tmp_path, monkeypatch):
    from polytask.cli.processes import refuse_several, run_again

    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_several("fit")
    with pytest.raises(RecipeError, match="polytask study is no training that processes can share"):
        refuse_several("study")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(RecipeError, match="use torchrun, not both"):
        run_again(2)
