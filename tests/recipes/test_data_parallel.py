"""Trainings by two processes: equal on both, and equal to the one by a single process, also after an interruption."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn

from polytask import Recipe, load
from polytask.errors import RecipeError, RunFolderError, StorageError, TrainingError
from polytask.training.evaluation import outputs_of
from polytask.training.interruption import Interrupted
from polytask.training.loop import Training
from polytask.training.opening import prepare_recipe
from polytask.training.ranks import Ranks, here, joined

ROWS = 131  # 92 to train on: steps of 30, 30, 30 rows and a last one of 2, in which the second process is idle


def table(n: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Half of the labels of price are missing, and all but a few of rare; d has two groups."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    x[:, 3] = x[:, 3] > 0
    made = pd.DataFrame(x, columns=list("abcd"))
    made["price"] = np.where(rng.random(n) < 0.5, np.nan, x @ [1.0, -1.0, 0.5, 0.0] + rng.normal(size=n))
    made["ill"] = np.where(x[:, 0] + rng.normal(size=n) > 0, "yes", "no")
    made["rare"] = np.where(rng.random(n) < 0.9, np.nan, x[:, 1] + rng.normal(size=n))
    return made


def recipe(**changes) -> Recipe:
    settings = {
        "tasks": {"price": "regression", "ill": "binary", "rare": "regression"},
        "encoder": {"name": "mlp", "widths": [8, 6], "dropout": 0.0},
        "training": {
            "epochs": 3,
            "batch_size": 30,
            "optimiser": "sgd",
            "learning_rate": 0.02,
            **changes.pop("train", {}),
        },
        "seed": 3,
    }
    return Recipe(**{**settings, **changes})


def several(**changes) -> tuple[Recipe, dict[str, pd.DataFrame]]:
    """Two sources, of which each step has a batch."""
    tables = {"one": table(80).drop(columns="rare"), "two": table(60, 1).drop(columns=["price", "ill"])}
    return recipe(**changes), tables


CASES = {
    "equal": {"balancer": "equal"},
    "learned weights": {"balancer": "uncertainty"},
    "losses after the step": {"balancer": "famo"},
    "gramian": {"balancer": "nash_mtl"},
    "rows": {"balancer": "moco"},
    "second batch": {"balancer": {"name": "modo", "independent": True}},
    "validation batch": {"balancer": "auto_lambda"},
    "features": {"balancer": "nash_mtl", "train": {"mode": "features"}},
    "matrix-free": {"balancer": "nash_mtl", "train": {"mode": "matrix_free"}},
    "mixture of experts": {"balancer": "upgrad", "sharing": "mmoe"},
    "chained tasks": {"balancer": "mgda", "sharing": "aitm"},
    "penalty": {"train": {"regularisers": [{"penalty": "group_l21", "strength": 0.01}]}},
    "stages": {"schedule": {"name": "sequential"}},
    "constraints": {"constraints": ["price.loss<=0.5", "ill.specificity>=0.8", "rare.loss<=0.4"]},
    "constraints beside gradients": {
        "balancer": "upgrad",  # by nash_mtl two scores come so near that rounding decides their order
        "constraints": ["ill.loss by d within 0.001", "ill.auroc>=0.9"],
    },
}
REMEDIES = {
    "ewc": {"name": "ewc", "strength": 40.0, "rows": 20},
    "online_ewc": {"name": "online_ewc", "strength": 40.0, "decay": 0.5, "rows": 20},
    "synaptic_intelligence": {"name": "synaptic_intelligence", "strength": 500.0},
    "learning_without_forgetting": {"name": "learning_without_forgetting", "strength": 20.0},
    "replay": {"name": "replay", "rows": 9, "batch": 5, "keeping": "class_balanced"},
    "a_gem": {"name": "a_gem", "rows": 9, "batch": 5},
}
CASES |= {name: {"schedule": {"name": "sequential", "remedies": [remedy]}} for name, remedy in REMEDIES.items()}


def numbers(run) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.bundle.models[0].model.state_dict().items()}


def metrics(run) -> dict[str, dict[str, float]]:
    return {t: {k: v for k, v in r.metrics.items() if v is not None} for t, r in run.record.tasks.items()}


def story(run) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "bytes_per_step")} for line in run.history]


def together(rank: int, folder: str) -> None:
    """Everything that two processes have to show; each leaves what it found."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    found: dict = {}
    for name, changes in CASES.items():
        run = recipe(**changes).run(table())
        found[name] = numbers(run)
        found[f"{name}: sent"] = run.record.environment["bytes_per_step"]
        found[f"{name}: metrics"] = json.dumps(metrics(run))
    made, tables = several(balancer="nash_mtl")
    found["sources"] = numbers(made.run(tables))
    with joined():
        source = prepare_recipe(recipe(), table()).train["data"]
        torch.manual_seed(0)
        found["pieces"] = dict(
            zip("abc", (part["ill"] for part in outputs_of(_Linear(), source, ["ill"], 9)), strict=True)
        )
        found["refusals"] = refusals(rank, folder)
    found["images"] = statistics()
    found["resumed"] = interrupted(rank, folder)
    found["strengths"] = [strengths(share) for share in (0.2, 0.0)]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


class _Linear(nn.Linear):
    """A network of one task, for the rows of any source."""

    def __init__(self):
        super().__init__(4, 1)

    def forward(self, inputs, tasks, source):
        x = inputs if isinstance(inputs, torch.Tensor) else inputs["numeric"]
        return dict.fromkeys(tasks, super().forward(x))


def refusals(rank: int, folder: str) -> list[str]:
    said = []
    with pytest.raises(StorageError) as told:
        here().by_first(lambda: _raise(StorageError("The disk is full.")))
    said.append(str(told.value))
    with pytest.raises(TrainingError) as told:
        recipe(train={"epochs": 1}).run(table(seed=rank))
    said.append(str(told.value))
    return said


def _raise(error: Exception) -> None:
    raise error


def statistics() -> dict[str, torch.Tensor]:
    """Images through batch normalisation: each process has its own rows, and the running statistics are the mean."""
    made = recipe(
        tasks={"a": {"kind": "regression"}, "b": {"kind": "regression"}},
        encoder={"name": "resnet18", "base": 4},
        train={"epochs": 1, "batch_size": 8, "patience": None},
        split={"validation": 0.0, "test": 0.3},
    )
    from polytask.training.data_sets import ArrayData

    rng = np.random.default_rng(0)
    labels = {"a": rng.normal(size=28), "b": rng.normal(size=28)}
    return numbers(made.run(ArrayData("data", rng.random((28, 1, 8, 8)).astype(np.float32), labels)))


def strengths(validation: float) -> list[float]:
    """How strong dropout is after each epoch, where labels are missing and have no noise."""
    found, usual = [], Training.end_epoch

    def noted(self):
        line = usual(self)
        found.append(self.fading.strength)
        return line

    made = recipe(
        tasks={"price": {"kind": "regression"}, "rare": {"kind": "regression"}},
        encoder={"name": "mlp", "widths": [16, 16], "dropout": 0.1},
        train={"epochs": 12, "optimiser": "adamw", "learning_rate": 0.02, "patience": None, "dropout_fades": True},
        split={"validation": validation},
    )
    rows = table().drop(columns="ill")
    rows["price"] = rows["a"].where(rows["price"].notna()) - rows["b"]
    rows["rare"] = rows["a"] + rows["c"]
    Training.end_epoch = noted
    try:
        made.run(rows)
    finally:
        Training.end_epoch = usual
    return found


def interrupted(rank: int, folder: str) -> list:
    """Ctrl-C reaches the second process only; both stop after the same step, and go on as if nothing had been."""
    made = recipe(balancer="pcgrad", encoder={"name": "mlp", "widths": [8, 6], "dropout": 0.5}, train={"epochs": 4})
    whole = made.run(table(), out=f"{folder}/whole")
    usual, steps = Training.step, []

    def step(self, batches):
        usual(self, batches)
        steps.append(1)
        if rank == 1 and len(steps) == 6:
            self.interruption._asked.set()

    Training.step = step
    with pytest.raises(Interrupted, match="after step 6"):
        made.run(table(), out=f"{folder}/again")
    Training.step = usual
    again = made.run(table(), out=f"{folder}/again", resume=True)
    assert story(whole) == story(again)
    return [numbers(whole), numbers(again)]


@pytest.fixture(scope="module")
def both():
    with tempfile.TemporaryDirectory() as folder:
        before = {name: os.environ.pop(name, None) for name in ("RANK", "WORLD_SIZE")}
        mp.spawn(together, args=(folder,), nprocs=2)
        os.environ.update({name: value for name, value in before.items() if value is not None})
        yield [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_equal(one, other) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


FOUR = ["gramian", "constraints"]


def of_four(rank: int, folder: str) -> None:
    """What one of four processes finds; in the last step of an epoch, of two rows, three of them are idle."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 4)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=4, timeout=timedelta(seconds=120))
    torch.save({name: numbers(recipe(**CASES[name]).run(table())) for name in FOUR}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_four_processes_end_like_one(tmp_path):
    multiprocessing.set_forkserver_preload(["pandas", "polytask.training.run"])  # loaded once, not by each of them
    mp.start_processes(of_four, args=(str(tmp_path),), nprocs=4, start_method="forkserver")
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(4)]
    for name in FOUR:
        for other in found[1:]:
            assert_equal(found[0][name], other[name])
        for key, value in numbers(by_one_process(name)).items():
            torch.testing.assert_close(found[0][name][key], value, rtol=1e-4, atol=2e-5)


@functools.cache
def by_one_process(name: str):
    return recipe(**CASES[name]).run(table())


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_like_one(both, name):
    first, second = both
    assert_equal(first[name], second[name])
    alone = by_one_process(name)
    for key, value in numbers(alone).items():
        torch.testing.assert_close(first[name][key], value, rtol=1e-4, atol=2e-5)
    found = json.loads(first[f"{name}: metrics"])
    assert first[f"{name}: metrics"] == second[f"{name}: metrics"]
    for task, expected in metrics(alone).items():
        assert found[task] == pytest.approx(expected, rel=1e-3, abs=1e-4), task


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("constraints")])
def test_each_constraint_pulls_more_than_two_processes_are_off(both, name):
    run = by_one_process(name)
    pulls = {
        k: max(line["constraints"][k].get("multiplier", 0.0) for line in run.history) for k in run.record.constraints
    }
    # Of a difference between two groups, one side is beyond its bound, and the other cannot be.
    bounds = {key.partition(" (")[0] for key, pull in pulls.items() if pull > 0}
    assert len(bounds) == len(CASES[name]["constraints"]), pulls
    free = {key: value for key, value in CASES[name].items() if key != "constraints"}
    alone, plain = numbers(run), numbers(recipe(**free).run(table()))
    off, effect = (max((one[k] - alone[k]).abs().max().item() for k in alone) for one in (both[0][name], plain))
    assert off < 1e-6 < 1e-4 < effect


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_changes_more_than_two_processes_are_off(both, name):
    alone, plain = (numbers(by_one_process(case)) for case in (name, "stages"))
    off, effect = (max((one[k] - alone[k]).abs().max().item() for k in alone) for one in (both[0][name], plain))
    assert off < 1e-6 < 1e-4 < effect


def test_a_step_with_a_batch_of_every_source(both):
    assert_equal(both[0]["sources"], both[1]["sources"])
    made, tables = several(balancer="nash_mtl")
    for key, value in numbers(made.run(tables)).items():
        torch.testing.assert_close(both[0]["sources"][key], value, rtol=1e-4, atol=2e-5)


def test_what_is_sent_is_what_the_arithmetic_says(both):
    run = recipe(balancer="nash_mtl").run(table())
    shared = run.record.parameters["shared"]
    heads = run.record.parameters["private"] + run.record.parameters["heads"]
    exact, plain = both[0]["gramian: sent"], both[0]["equal: sent"]
    # T rows of the shared parameters against one; the rest are a few numbers a task and a flag a parameter.
    assert exact == pytest.approx(4 * (3 * shared + heads), abs=250)
    assert plain == pytest.approx(4 * (shared + heads), abs=250)


def test_pieces_are_shared_out_and_come_back_in_order(both):
    source = prepare_recipe(recipe(), table()).train["data"]
    torch.manual_seed(0)
    expected = dict(zip("abc", (part["ill"] for part in outputs_of(_Linear(), source, ["ill"], 9)), strict=True))
    for found in both:
        assert_equal(found["pieces"], expected)


def test_running_statistics_are_equal_everywhere(both):
    assert any("running_var" in name for name in both[0]["images"])
    assert_equal(both[0]["images"], both[1]["images"])


def test_interrupted_and_resumed_equals_the_whole_bit_for_bit(both):
    for found in both:
        assert_equal(*found["resumed"])
    assert_equal(both[0]["resumed"][0], both[1]["resumed"][0])


def test_dropout_fades_alike_in_all_processes(both):
    for first, second in zip(both[0]["strengths"], both[1]["strengths"], strict=True):
        assert first == second
        assert len(first) == 12
        assert first[-1] < 0.8, "or nothing is proved"


def test_what_cannot_be_is_refused_by_all(both):
    assert both[0]["refusals"] == both[1]["refusals"]
    full, others = both[0]["refusals"]
    assert full == "The disk is full."
    assert "Rank 1 has not the same rows or settings as rank 0" in others or "Rank 1 has not the same" in others


def test_shares_cover_a_draw_and_leave_nobody_a_single_row():
    class Of(Ranks):
        def __init__(self, rank, size):
            self.group, self.rank, self.size = object(), rank, size

    for n in range(1, 20):
        for size in (1, 2, 3, 5):
            shares = [Of(rank, size).share(torch.arange(n)) for rank in range(size)]
            busy = [rows for rows, part in shares if part]
            assert torch.equal(torch.cat(busy), torch.arange(n))
            assert sum(part for _, part in shares) == pytest.approx(1.0)
            assert n == 1 or min(map(len, busy)) >= 2
            assert max(map(len, busy)) - min(map(len, busy)) <= 1


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


def test_a_checkpoint_of_two_processes_needs_two(both, tmp_path):
    made = recipe()
    run = Training.state_dict

    def of_two(self):
        state = run(self)
        return {**state, "generators": state["generators"] * 2}

    Training.state_dict = of_two
    usual = Training.end_epoch

    def stop(self):
        line = usual(self)
        self.interruption._asked.set()
        return line

    Training.end_epoch = stop
    try:
        with pytest.raises(Interrupted):
            made.run(table(), out=tmp_path / "run")
    finally:
        Training.state_dict, Training.end_epoch = run, usual
    with pytest.raises(RunFolderError, match="by 2 processes, and this one has 1: go on with --processes 2"):
        made.run(table(), out=tmp_path / "run", resume=True)
