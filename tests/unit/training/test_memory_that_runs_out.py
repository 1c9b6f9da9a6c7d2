"""Memory that runs out in a step: the batch goes through in smaller pieces, and the result is the same to rounding."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from polytask import Recipe
from polytask.errors import TrainingError
from polytask.training.interruption import Interrupted
from polytask.training.memory import ran_out
from polytask.training.passes import Passes

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


def table(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4))
    made = pd.DataFrame(x, columns=list("abcd"))
    made["price"] = np.where(rng.random(n) < 0.3, np.nan, x @ [1.0, -1.0, 0.5, 0.0] + rng.normal(size=n))
    made["ill"] = np.where(x[:, 0] + rng.normal(size=n) > 0, "yes", "no")
    return made


def recipe(balancer: str = "equal", **train) -> Recipe:
    return Recipe(
        tasks={"price": "regression", "ill": "binary"},
        encoder={"name": "mlp", "widths": [16, 12]},
        balancer=balancer,
        training={"epochs": 3, "batch_size": 16, "optimiser": "sgd", "learning_rate": 0.05, **train},
    )


@contextlib.contextmanager
def room_for(n_rows: int, error: BaseException = ERRORS[0], after: int = 0):
    """Inside, a training's layers have memory for so many rows only, once they ran so often."""
    usual, calls = nn.Linear.forward, []

    def forward(layer, x):
        # Heads see all rows at once: their part is small, and what is divided is the shared part.
        if layer.training and torch.is_grad_enabled() and layer.out_features >= 12:
            calls.append(1)
            if len(x) > n_rows and len(calls) > after:
                raise error
        return usual(layer, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "forward", forward)
        yield


def numbers(run) -> dict[str, torch.Tensor]:
    return run.bundle.models[0].model.state_dict()


@pytest.mark.parametrize("error", ERRORS, ids=["accelerator", "processor", "python"])
@pytest.mark.parametrize("balancer", ["equal", "uncertainty", "famo", "pcgrad", "nash_mtl", "moco", "gradnorm"])
def test_the_result_is_the_same_to_rounding(balancer, error):
    expected = recipe(balancer).run(table())
    with room_for(4, error):
        found = recipe(balancer).run(table())
    for name, value in numbers(expected).items():
        torch.testing.assert_close(numbers(found)[name], value, rtol=2e-4, atol=2e-5)
    assert [line["pieces"] for line in found.history] == [4, 4, 4]
    assert "Memory ran out in epoch 1: from then on" in " ".join(found.record.notes)
    assert "pieces, 4 at the end" in " ".join(found.record.notes)
    assert not any("pieces" in line for line in expected.history)


@pytest.mark.parametrize("balancer", ["uncertainty", "moco", "nash_mtl", "rlw"])
def test_on_the_way_back_too_nothing_is_counted_twice(balancer, monkeypatch):
    """Memory runs out when the balancer has weighed the losses already."""
    expected = recipe(balancer, accumulate=2).run(table())
    usual, steps = Passes._backward, []

    def backward(passes, batches, features, losses, at, *rest):
        outcome = usual(passes, batches, features, losses, at, *rest)
        steps.append(at.step)
        if len(steps) == 1:
            raise ERRORS[0]
        return outcome

    monkeypatch.setattr(Passes, "_backward", backward)
    found = recipe(balancer).run(table())
    assert steps[:3] == [0, 0, 1]
    for name, value in numbers(expected).items():
        assert torch.equal(numbers(found)[name], value), name


def test_a_failed_step_is_no_lesson_in_what_a_loss_usually_is(monkeypatch):
    usual, done, told = Passes._backward, [], []

    def backward(passes, batches, features, losses, at, *rest):
        outcome = usual(passes, batches, features, losses, at, *rest)
        done.append(at.step)
        if len(done) in (1, 2, 7):
            raise ERRORS[0]
        told.append({name: len(found) for name, found in passes.skips.first.items()})
        return outcome

    monkeypatch.setattr(Passes, "_backward", backward)
    recipe().run(table())
    assert done[:8] == [0, 0, 0, 1, 2, 3, 4, 4]
    for step, lengths in enumerate(told):
        assert set(lengths.values()) <= {step, step + 1}, "before this step is looked at, or after"
    assert told[-1] == told[0] | {name: told[0][name] + len(told) - 1 for name in told[0]}


class Stop:
    """Asks a training to stop after some steps, as Ctrl-C does."""

    def __init__(self, steps: int):
        self.left = steps

    def start(self, *args): ...

    def stop(self, *args): ...

    def step(self, losses, epoch):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("balancer", ["equal", "nash_mtl"])
def test_an_interrupted_training_goes_on_in_as_many_pieces(balancer, tmp_path: Path):
    with room_for(8, after=9):
        whole = recipe(balancer).run(table())
    with room_for(8, after=9), pytest.raises(Interrupted):
        recipe(balancer).run(table(), out=tmp_path / "cut", progress=Stop(7))
    with room_for(8):
        resumed = recipe(balancer).run(table(), out=tmp_path / "cut", resume=True)
    assert all(torch.equal(numbers(whole)[name], value) for name, value in numbers(resumed).items())
    assert [line.get("pieces") for line in whole.history] == [line.get("pieces") for line in resumed.history]


def test_when_nothing_is_left_to_divide_the_training_ends_with_a_diagnosis():
    with room_for(1), pytest.raises(TrainingError, match=r"Step 0: memory ran out .*a batch of 16 rows.*batch_size"):
        recipe().run(table())
    with room_for(4), pytest.raises(TrainingError, match="matrix_free"):
        recipe("mgda", mode="matrix_free").run(table())


def test_other_errors_are_no_shortage(monkeypatch):
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(ValueError("out of memory"))
    with room_for(4, RuntimeError("shapes")), pytest.raises(RuntimeError, match="shapes"):
        recipe().run(table())


def test_however_often_memory_runs_out_in_a_step_its_violation_counts_once(monkeypatch):
    usual = Passes._backward

    def summed(n_times):
        left = [n_times]

        def backward(passes, *rest):
            if left[0]:
                left[0] -= 1
                raise ERRORS[0]
            return usual(passes, *rest)

        monkeypatch.setattr(Passes, "_backward", backward)
        asked = Recipe(**{**recipe(epochs=1).plain(), "constraints": ["price.loss<=0.1"]})
        return asked.run(table()).history[0]["constraints"]["price.loss<=0.1"]["train_violation"]

    once, twice, three_times = summed(0), summed(2), summed(3)
    assert twice == pytest.approx(once, rel=1e-4)
    assert three_times == pytest.approx(once, rel=1e-4)
