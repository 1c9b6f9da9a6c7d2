"""Fronts of trade-offs."""

import numpy as np
import pytest

from polytask.data import related_regressions
from polytask.errors import RecipeError
from polytask.recipe import Recipe
from polytask.study.pareto import dominated, pareto_front, preferences


@pytest.mark.parametrize(("n_tasks", "n"), [(2, 2), (2, 7), (3, 3), (3, 10), (5, 12)])
def test_preferences_are_spread_over_the_simplex(n_tasks: int, n: int) -> None:
    found = preferences(n_tasks, n)
    assert found.shape == (n, n_tasks)
    assert np.allclose(found.sum(axis=1), 1)
    assert (found > 0).all()
    assert len(np.unique(found.round(9), axis=0)) == n


def test_dominated_agrees_with_the_definition() -> None:
    values = np.random.default_rng(0).integers(0, 4, (30, 3)).astype(float)
    slow = [any((other <= row).all() and (other < row).any() for other in values) for row in values]
    assert dominated(values).tolist() == slow


def test_a_preferred_task_is_learned_better(tmp_path) -> None:
    # Two tasks that pull one shared number apart: the trunk has a single unit.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    table = {"u": x[:, 0], "v": x[:, 1], "a": x[:, 0], "b": x[:, 1]}
    recipe = Recipe(
        tasks=["a", "b"],
        data={"data": {"inputs": ["u", "v"], "scaling": "standard"}},
        encoder={"name": "mlp", "widths": [1]},
        training={"epochs": 30, "learning_rate": 0.02, "patience": None},
    )
    import pandas as pd

    frame = pd.DataFrame(table)
    # The inputs are copies of the targets on purpose, so a little noise keeps the copy check from refusing them.
    frame[["u", "v"]] += 1e-3 * rng.normal(size=(600, 2))
    front = pareto_front(recipe, 3, frame)
    assert front.errors[0, 1] < front.errors[-1, 1]
    assert front.errors[-1, 0] < front.errors[0, 0]
    front.plot(tmp_path / "front.html")
    assert "error of a" in (tmp_path / "front.html").read_text(encoding="utf-8")
    assert list(front.table().columns)[-1] == "is dominated"


def test_one_task_has_no_front() -> None:
    made = related_regressions(1, 50, seed=0)
    with pytest.raises(RecipeError, match="two tasks"):
        pareto_front(Recipe(tasks=list(made.targets)), 3, made.frame)


def test_a_method_without_preference_is_refused() -> None:
    with pytest.raises(RecipeError, match="preference"):
        pareto_front(Recipe(tasks=["a", "b"]), 3, balancer="pcgrad")
