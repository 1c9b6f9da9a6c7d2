"""What goes wrong in the middle of a training: a loss that explodes, a source that hangs, an operation that wavers."""

from __future__ import annotations

import copy
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from test_training_loop import regressions, source, training

from polytask import Recipe
from polytask.data.batch import ArraySource
from polytask.errors import ExplodedError, HangingError, NonFiniteError, RecipeError, TrainingError
from polytask.training.determinism import deterministic
from polytask.training.listeners import Listeners
from polytask.training.settings import Settings
from polytask.training.skips import Skips


def spoiled(steps, factor=1e6, **settings):
    """A training in which the labels of `a` are huge in the batches of some steps."""
    ours = training([source()], regressions("a", "b"), epochs=15, **settings)

    def spoil(at_training, batches):
        if at_training.at.step in steps:
            batches[0].targets["a"].mul_(factor)

    ours.listeners = Listeners(watch=spoil)
    return ours


def outcome(ours):
    history = [{key: value for key, value in line.items() if key != "seconds"} for line in ours.run()]
    return history, [parameter.detach().clone() for parameter in ours.model.parameters()]


@pytest.mark.parametrize("balancer", ["equal", "pcgrad", "famo"])
def test_an_exploded_loss_is_left_out_counted_and_named(balancer):
    ours = spoiled({40, 41, 50}, balancer=balancer)
    history, parameters = outcome(ours)
    assert ours.skips.total == {"a": 3}
    assert ours.skips.notes() == [
        "Task 'a': its loss was NaN, infinite or exploded in 3 batches, which were left out for it."
    ]
    assert all(parameter.isfinite().all() and parameter.abs().max() < 10 for parameter in parameters)
    assert all(line["train"]["a"] < 10 for line in history)
    assert {*history[-1]["train"]} == {"a", "b"}


def test_without_the_guard_the_same_batch_does_harm():
    ours = spoiled({40}, explosion=0.0)
    history, _ = outcome(ours)
    assert max(line["train"]["a"] for line in history) > 1e9
    assert not ours.skips.total


def test_while_nothing_explodes_no_bit_changes():
    runs = [outcome(spoiled(set(), explosion=explosion)) for explosion in (0.0, 1e4)]
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(one, other) for one, other in zip(runs[0][1], runs[1][1], strict=True))


def test_a_task_that_goes_on_exploding_ends_the_training_with_a_diagnosis():
    ours = spoiled(set(range(40, 60)), skips=4)
    wanted = r"Step 44 .*task 'a' \(.*\) is over 10000 times what it usually was .*number 5 in a row.*labels.*clip_norm"
    with pytest.raises(NonFiniteError, match=wanted):
        ours.run()
    with pytest.raises(NonFiniteError, match="Step 40"):
        spoiled({40}, skips=0).run()


def test_what_is_usual_goes_with_the_checkpoint():
    ours, other = spoiled({58}), spoiled({58})
    for _ in range(10):
        ours.epoch()
    assert ours.skips.usual.keys() == {"a", "b"}
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert other.skips == ours.skips
    while not ours.at.is_done:
        ours.epoch(), other.epoch()
    assert ours.skips.total == other.skips.total == {"a": 1}
    assert all(torch.equal(p, q) for p, q in zip(ours.model.parameters(), other.model.parameters(), strict=True))


def test_what_is_usual_is_robust():
    skips = Skips()
    for i in range(32):
        skips.look(["a"], [1e9 if i % 3 == 0 else 1.0], 100)  # a third of the first losses are wild
    assert skips.usual["a"] == [1.0, 1.0]
    for _ in range(2000):
        skips.look(["a"], [1e-12], 100)  # the task has learned everything
    skips.look(["a"], [99.0], 100)
    for i in range(500):
        skips.look(["a"], [1.01**i], 100)  # slowly rising losses are no explosion
    with pytest.raises(ExplodedError, match=r"'a' \(1e\+06\) is over 100 times what it usually was"):
        skips.look(["a"], [1e6], 100)
    zeros = Skips()
    for _ in range(40):
        zeros.look(["a"], [0.0], 100)
    zeros.look(["a"], [5.0], 100)  # there is no usual to be compared with


def table(n: int = 80) -> pd.DataFrame:
    x = np.random.default_rng(0).normal(size=(n, 2))
    return pd.DataFrame({"u": x[:, 0], "v": x[:, 1], "p": x[:, 0] + x[:, 1], "q": x[:, 0] - x[:, 1]})


def test_a_source_that_hangs_is_named_and_the_run_goes_on_when_it_answers(tmp_path, monkeypatch):
    settings = {"epochs": 4, "batch_size": 8, "checkpoint_seconds": 0.0, "load_seconds": 0.3}
    asked = Recipe(tasks=["p", "q"], encoder={"name": "tabular", "width": 4}, training=settings)
    usual = Recipe(
        tasks=["p", "q"], encoder={"name": "tabular", "width": 4}, training={**settings, "load_seconds": None}
    )
    expected = usual.run(table())
    ever, calls, batch = threading.Event(), [], ArraySource.batch

    def hang(self, rows):
        calls.append(1)
        if len(calls) == 20:
            ever.wait(20)
        return batch(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(ArraySource, "batch", hang)
        began = time.monotonic()
        with pytest.raises(
            HangingError, match=r"'data' has not given a batch of 8 rows within 0.3 s.* line \d+ of .*--res"
        ):
            asked.run(table(), out=tmp_path / "run")
        assert time.monotonic() - began < 15
        ever.set()
    resumed = asked.run(table(), out=tmp_path / "run", resume=True)
    states = [run.bundle.models[0].model.state_dict() for run in (expected, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_errors_of_a_source_pass_through(monkeypatch):
    ours = training([source()], regressions("a", "b"))
    ours.feed.seconds = 5.0
    monkeypatch.setattr(ArraySource, "batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ours.run()


def test_deterministic_algorithms_only():
    asked = Recipe(
        tasks=["p", "q"], encoder={"name": "tabular", "width": 4}, training={"epochs": 2, "deterministic": True}
    )
    plain = Recipe(tasks=["p", "q"], encoder={"name": "tabular", "width": 4}, training={"epochs": 2})
    states = [run.bundle.models[0].model.state_dict() for run in (asked.run(table()), plain.run(table()))]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.are_deterministic_algorithms_enabled()
    with (
        pytest.raises(TrainingError, match=r"training.deterministic cannot be kept: put_ does not have"),
        deterministic(True),
    ):
        torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))
    with pytest.raises(RuntimeError, match="other"), deterministic(True):
        raise RuntimeError("other")
    assert not torch.are_deterministic_algorithms_enabled()


def test_settings_of_guards():
    for wrong, words in (
        ({"explosion": -1}, "explosion must be at least 0"),
        ({"load_seconds": 0}, "load_seconds must"),
    ):
        with pytest.raises(RecipeError, match=words):
            Settings.from_options(wrong)
    assert issubclass(ExplodedError, NonFiniteError)  # a study takes both for a training that diverged
