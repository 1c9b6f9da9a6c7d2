"""Dropout that fades: as strong as what is not explained yet, by validation rows or else by training rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from polytask.data.batch import ArraySource
from polytask.data.plan import BatchPlan
from polytask.models.building import build_model
from polytask.models.dropout import Dropout
from polytask.models.inputs import InputShape
from polytask.models.spec import ModelSpec
from polytask.tasks import Regression
from polytask.training.additions import Additions
from polytask.training.evaluation import constant_losses
from polytask.training.fading import Fading
from polytask.training.feed import Feed
from polytask.training.loop import Training
from polytask.training.own_ways import OwnWays
from polytask.training.position import Position
from polytask.training.settings import Settings
from polytask.training.stopping import StopRule
from polytask.training.task_control import TaskControl


def rows(n, seed, noise=0.0, tasks=("a", "b")):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=draw)
    targets = {t: x[:, i] + noise * torch.randn(n, generator=draw) for i, t in enumerate(tasks)}
    return ArraySource("main", x, targets, {t: torch.ones(n, dtype=torch.bool) for t in tasks})


def training(*, validation=True, weights=(1.0, 1.0), noise=0.0, dropout=0.1, factors=None, controls=None, **settings):
    tasks = [Regression(name="a", weight=weights[0]), Regression(name="b", weight=weights[1])]
    for task in tasks:
        task.fit(np.array([-1.0, 1.0]))
    torch.manual_seed(0)
    data, held = replace(rows(128, 0, noise), **(factors or {})), {"main": rows(64, 1, noise)} if validation else {}
    options = {"widths": [32, 32], "dropout": dropout}
    spec = ModelSpec({"main": InputShape.of(data.inputs)}, {"a": 1, "b": 1}, "mlp", encoder_options=options)
    given = {"epochs": 16, "learning_rate": 0.02, "patience": None, "dropout_fades": True, **settings}
    plan = BatchPlan({"main": 128}, 16, seed=1)
    from polytask.balancing.losses.equal import Equal

    additions = Additions(controls=controls or {})
    return Training(build_model(spec), tasks, Feed({"main": data}, plan), held, Equal(), Settings(**given), additions)


def strengths(ours):
    """The strength of every dropout at each step's start, by epoch."""
    found = []
    step = ours.step

    def seen(batches):
        found.append((ours.at.epoch, {m.strength for m in ours.model.modules() if isinstance(m, Dropout)}))
        step(batches)

    ours.step = seen
    history = ours.run()
    by_epoch = [set().union(*(s for e, s in found if e == epoch)) for epoch in range(len(history))]
    assert all(len(one) == 1 for one in by_epoch)
    return [one.pop() for one in by_epoch], history


@pytest.mark.parametrize("validation", [True, False])
def test_the_strength_is_what_the_best_epoch_so_far_left_unexplained(validation):
    ours = training(validation=validation, weights=(1.0, 0.25))
    found, history = strengths(ours)
    constant = constant_losses(ours.tasks, ours.validation or ours.feed.sources)
    if validation:
        shares = [np.mean([line["validation"][t] / constant[t] for t in "ab"]) for line in history]
    else:
        shares = [np.mean([line["train"]["a"] / constant["a"], line["train"]["b"] / constant["b"] / 0.25])
                  for line in history]  # fmt: skip
    lowest = np.minimum.accumulate([1.0, *shares])[:-1]
    assert found == pytest.approx(np.minimum(1.0, 4 * lowest), abs=1 / 128 + 1e-9)
    assert found[0] == 1.0
    assert found[-1] < 0.8, "something was learned"
    assert all(strength * 64 == round(strength * 64) for strength in found), "in steps"


@pytest.mark.parametrize("factor", [0.01, 100.0])
@pytest.mark.parametrize("what", ["rows", "task", "both"])
def test_the_scale_of_weights_changes_nothing(what, factor):
    draw = torch.Generator().manual_seed(2)
    all_rows, own = (factor * (0.5 + torch.rand(128, generator=draw)) for _ in range(2))
    factors = {"rows": {"row_weights": all_rows}, "task": {"task_weights": {"a": own}}}
    given = factors["rows"] | factors["task"] if what == "both" else factors[what]
    noisy = training(validation=False, noise=30.0, epochs=3, factors=given)
    assert set(strengths(noisy)[0]) == {1.0}, "there is nothing to explain"
    assert noisy.at.unexplained > 0.5
    assert strengths(training(validation=False, factors=given))[0][-1] < 0.8, "all can be explained"


def test_constants_have_the_weights_of_rows_and_tasks():
    weight, own = torch.linspace(0.0, 2.0, 128), torch.linspace(3.0, 0.0, 128)
    ours = training(validation=False, weights=(1.0, 0.25), factors={"row_weights": weight, "task_weights": {"b": own}})
    source = ours.feed.sources["main"]
    label = {t: torch.tensor([constant_losses([task], {"main": source.take(torch.tensor([i]))})[t] for i in range(128)])
             for task, t in zip(ours.tasks, "ab", strict=True)}  # fmt: skip
    expected = {"a": (weight * label["a"]).mean().item(), "b": 0.25 * (weight * own * label["b"]).mean().item()}
    assert ours.fading.constant == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("warmup", [0.3, 0.9])
def test_a_warm_up_changes_nothing(warmup):
    controls = {"a": TaskControl(warmup=warmup), "b": TaskControl(warmup=warmup)}
    noisy = training(validation=False, noise=30.0, epochs=4, controls=controls)
    assert set(strengths(noisy)[0]) == {1.0}
    own = OwnWays(controls, noisy.model, noisy.settings, 32)
    for steps in (range(8), range(8, 16), range(24, 32)):
        weighed = [own.weigh({"a": torch.tensor(2.0), "c": torch.tensor(3.0)}, step) for step in steps]
        means = {task: np.mean([losses[task].item() for losses in weighed]) for task in "ac"}
        assert own.unweighed(means, steps) == pytest.approx({"a": 2.0, "c": 3.0})


def test_losses_of_sources_in_one_step_are_added():
    ours, other = training(validation=False), replace(rows(64, 3, tasks=("a",)), name="other")
    feed = Feed({**ours.feed.sources, "other": other}, BatchPlan({"main": 128, "other": 64}, 16, seed=1), 2)
    both = Training(ours.model, ours.tasks, feed, {}, ours.balancer, ours.settings)
    alone, beside = (constant_losses(ours.tasks, {n: source}) for n, source in feed.sources.items())
    assert both.fading.constant == pytest.approx({"a": alone["a"] + beside["a"], "b": alone["b"]})


@pytest.mark.parametrize("validation", [True, False])
def test_a_task_of_weight_zero_does_not_count(validation):
    found, history = strengths(training(validation=validation, weights=(1.0, 0.0)))
    constant = constant_losses(training().tasks, {"main": rows(64, 1) if validation else rows(128, 0)})
    shares = [line["validation" if validation else "train"]["a"] / constant["a"] for line in history]
    lowest = np.minimum.accumulate([1.0, *shares])[:-1]
    assert found == pytest.approx(np.minimum(1.0, 4 * lowest), abs=1 / 128 + 1e-9)
    assert found[-1] < 0.8


def test_nothing_fades_unless_it_is_asked_for():
    assert set(strengths(training(dropout_fades=False))[0]) == {1.0}


def test_a_further_training_of_the_network_begins_at_full_strength():
    ours = training()
    assert strengths(ours)[0][-1] < 0.8
    Fading(ours.model, {"a": 1.0, "b": 1.0})
    assert {m.strength for m in ours.model.modules() if isinstance(m, Dropout)} == {1.0}


def test_what_cannot_be_known_changes_nothing():
    fading = Fading(training().model, {"a": 2.0, "b": 1.0})
    assert fading.follow(0.5, {"a": float("nan"), "b": 0.1}) == 0.5
    assert fading.follow(0.5, {"c": 0.1}) == 0.5
    assert fading.follow(0.5, {"b": 0.1}) == 0.5, "of a nothing is known in this epoch"
    assert fading.follow(0.5, {}) == 0.5
    assert fading.follow(0.5, {"a": -1.0, "b": 0.1}) == 0.0, "a likelihood may be above one"
    assert fading.strength == 0.0


def test_patience_grows_as_dropout_fades():
    rule = StopRule(Settings(patience=4), training().tasks, {"a": 1.0, "b": 1.0})

    def waits(strength):
        return next(n for n in range(1, 200) if rule.is_patience_over(Position(epoch=6 + n, best=5), strength))

    assert [waits(strength) for strength in (1.0, 0.75, 0.5, 1 / 16, 0.0)] == [4, 6, 8, 64, 64]
    assert waits(1.0) == next(n for n in range(1, 200) if rule.is_patience_over(Position(epoch=6 + n, best=5)))


def test_a_training_waits_as_long_as_its_own_strength_says():
    ours = training(patience=3, stop_rule="mean", epochs=200, learning_rate=0.05)
    history = ours.run()
    assert ours.at.why.startswith("nothing better")
    best = max(line["epoch"] for line in history if line["is_best"])
    assert ours.fading.strength < 0.9
    assert len(history) - 1 - best == math.ceil(3 / max(ours.fading.strength, 1 / 16))


def test_patience_does_not_grow_where_no_dropout_fades():
    ours = training(dropout=0.0, patience=3, stop_rule="mean", epochs=200, learning_rate=0.05)
    history = ours.run()
    assert ours.fading.strength == 1.0
    assert min(line["validation"]["a"] for line in history) < 0.05, "there was much to fade for"
    assert len(history) - 1 - max(line["epoch"] for line in history if line["is_best"]) == 3
