"""The history's line of an epoch against means written by hand."""

import numpy as np
import pytest
import torch

from polytask.balancing.outcome import Outcome, Report
from polytask.data import related_regressions
from polytask.recipe import Recipe
from polytask.training.epoch_sums import EpochSums


def outcome(rows: list[list[float]], losses: list[float]) -> Outcome:
    g = torch.tensor(rows, dtype=torch.float64)
    weights = torch.ones(len(rows), dtype=torch.float64)
    return Outcome(
        ("a", "b"), weights, g @ g.T, torch.tensor(losses, dtype=torch.float64), Report("exact", "rows"), None
    )


def test_means_count_only_steps_that_had_the_task() -> None:
    sums = EpochSums(["a", "b"])
    sums.add(outcome([[1.0, 0.0], [-1.0, 1.0]], [1.0, 4.0]))
    sums.add(outcome([[2.0, 0.0], [0.0, 0.0]], [3.0, float("nan")]))
    sums.add(outcome([[1.0, 0.0], [1.0, 0.0]], [2.0, 2.0]))
    line = sums.line()
    assert line["train"] == {"a": 2.0, "b": 3.0}
    assert line["cosines"]["a | b"] == pytest.approx((-(0.5**0.5) + 1.0) / 2)
    assert line["conflict_rate"] == 0.5


def test_half_an_epoch_saved_and_gone_on_with_is_the_whole_one() -> None:
    steps = [outcome(np.random.default_rng(i).normal(size=(2, 3)).tolist(), [1.0, 2.0]) for i in range(6)]
    whole, first = EpochSums(["a", "b"]), EpochSums(["a", "b"])
    for step in steps:
        whole.add(step)
    for step in steps[:3]:
        first.add(step)
    second = EpochSums(["a", "b"])
    second.load_state_dict(first.state_dict())
    for step in steps[3:]:
        second.add(step)
    assert second.line() == whole.line()


def test_conflict_is_in_the_history_when_gradients_are_seen() -> None:
    made = related_regressions(3, 80, seed=0)
    recipe = Recipe(
        tasks=dict.fromkeys(made.targets, "regression"),
        encoder={"name": "mlp", "widths": [8]},
        balancer="mgda",
        training={"epochs": 2},
    )
    lines = recipe.run(made.frame).history
    assert all(len(line["cosines"]) == 3 and 0 <= line["conflict_rate"] <= 1 for line in lines)
    plain = recipe.model_copy(update={"balancer": Recipe(tasks=["x"]).balancer}).run(made.frame).history
    assert all("cosines" not in line for line in plain)
