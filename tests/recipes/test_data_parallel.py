"""Trainings by two processes: equal on both, and equal to the one by a single process, also after an interruption."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from several_processes import (
    CASES,
    REMEDIES,
    assert_equal,
    by_one_process,
    metrics,
    numbers,
    recipe,
    several,
    story,
    table,
)
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn

from polytask.errors import RunFolderError, StorageError, TrainingError
from polytask.training.evaluation import outputs_of
from polytask.training.interruption import Interrupted
from polytask.training.loop import Training
from polytask.training.opening import prepare_recipe
from polytask.training.ranks import Ranks, here, joined


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
    assert others.startswith("Rank 1 has not the same parameters as rank 0")


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
