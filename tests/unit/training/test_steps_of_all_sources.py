"""A balancer that compares tasks sees those of all sources in one step."""

import numpy as np
import pytest

from polytask.errors import RecipeError
from polytask.recipe import Recipe
from polytask.training.data_sets import ArrayData


def sources(n_first: int = 90, n_second: int = 30) -> list[ArrayData]:
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(n_first, 4)), rng.normal(size=(n_second, 4))
    return [ArrayData("first", x, {"a": x[:, 0]}), ArrayData("second", z, {"b": z[:, 1] - z[:, 2]})]


def recipe(**changes) -> Recipe:
    settings = {
        "tasks": {"a": "regression", "b": "regression"},
        "encoder": {"name": "mlp", "widths": [8]},
        "split": {"validation": 0.2, "test": 0.2},
        "training": {"epochs": 3, "batch_size": 8},
    }
    return Recipe(**{**settings, **changes})


def test_gradients_of_tasks_of_different_sources_meet() -> None:
    history = recipe(balancer="mgda").run(sources()).history
    assert all(list(line["cosines"]) == ["a | b"] for line in history)
    # An epoch is one pass over the larger source: 54 training rows, 7 batches.
    assert [line["step"] for line in history] == [7, 14, 21]


def test_plain_summation_still_reads_one_source_a_step() -> None:
    history = recipe().run(sources()).history
    assert [line["step"] for line in history] == [10, 20, 30]


def test_both_can_be_asked_for() -> None:
    apart = recipe(balancer="mgda", training={"epochs": 1, "batch_size": 8, "together": False}).run(sources()).history
    assert "cosines" not in apart[0]
    joined = recipe(training={"epochs": 1, "batch_size": 8, "together": True}).run(sources()).history
    assert joined[0]["step"] == 7


def test_a_sampler_and_steps_of_all_sources_contradict_each_other() -> None:
    asked = recipe(sampler="uniform", training={"epochs": 1, "together": True})
    with pytest.raises(RecipeError, match="sampler 'uniform'"):
        asked.run(sources())


@pytest.mark.parametrize("balancer", ["equal", "nash_mtl", "famo", "modo", "auto_lambda", "uncertainty"])
def test_a_step_of_all_sources_sums_what_two_steps_would_read(balancer: str) -> None:
    """Every kind of balancer trains so, and stays finite."""
    run = recipe(balancer=balancer, training={"epochs": 2, "batch_size": 8, "together": True}).run(sources())
    assert all(np.isfinite(list(line["train"].values())).all() and len(line["train"]) == 2 for line in run.history)
