"""A front of trade-offs: one training for each preference among the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from polytask.errors import MissingExtraError, RecipeError
from polytask.storage import write_text

if TYPE_CHECKING:
    from polytask.recipe import Recipe
    from polytask.training.progress import Progress

__all__ = ["ParetoFront", "dominated", "pareto_front", "preferences"]


@dataclass(frozen=True)
class ParetoFront:
    """What each preference led to.

    Args:
        tasks: Names of the tasks.
        preferences: One row a training, ``[n, T]``; rows sum to 1.
        errors: Error of each task on the held-out rows over that of the best constant: 0 is perfect; ``[n, T]``.
        is_dominated: Whether another training is at least as good on every task and better on one; ``[n]``.
    """

    tasks: tuple[str, ...]
    preferences: np.ndarray
    errors: np.ndarray
    is_dominated: np.ndarray

    def table(self) -> pd.DataFrame:
        """A row a training: preferences, errors, whether it is dominated."""
        columns = {f"preference for {task}": self.preferences[:, t] for t, task in enumerate(self.tasks)}
        columns |= {f"error of {task}": self.errors[:, t] for t, task in enumerate(self.tasks)}
        return pd.DataFrame({**columns, "is dominated": self.is_dominated})

    def plot(self, path: str | Path) -> None:
        """Write the front as one page that opens offline: a scatter for two tasks, parallel axes for more.

        Raises:
            MissingExtraError: If plotly is not installed.
        """
        try:
            import plotly.graph_objects as go
        except ImportError as error:
            raise MissingExtraError("plotting a front", "plotly", "page") from error
        if len(self.tasks) == 2:
            figure = go.Figure(
                [
                    go.Scatter(
                        x=self.errors[rows, 0],
                        y=self.errors[rows, 1],
                        mode="markers",
                        name=name,
                        marker={"symbol": symbol, "size": 11, "color": colour},
                        text=[_words(self.tasks, p) for p in self.preferences[rows]],
                    )
                    for name, symbol, colour, rows in (
                        ("on the front", "circle", "#0072B2", ~self.is_dominated),
                        ("dominated", "x", "#999999", self.is_dominated),
                    )
                    if rows.any()
                ]
            )
            figure.update_xaxes(title=f"error of {self.tasks[0]} (1 = no skill)")
            figure.update_yaxes(title=f"error of {self.tasks[1]} (1 = no skill)")
        else:
            axes = [{"label": task, "values": self.errors[:, t]} for t, task in enumerate(self.tasks)]
            line = {"color": self.is_dominated.astype(int), "colorscale": [[0, "#0072B2"], [1, "#BBBBBB"]]}
            figure = go.Figure(go.Parcoords(dimensions=axes, line=line))
        figure.update_layout(title="Trade-offs between the tasks, on held-out rows", template="plotly_white")
        write_text(path, figure.to_html(include_plotlyjs=True, full_html=True))


def pareto_front(
    recipe: Recipe,
    n: int,
    data: Any = None,
    *,
    balancer: str = "stch",
    progress: Progress | None = None,
) -> ParetoFront:
    """Train a recipe once for each of ``n`` preferences, spread evenly over the tasks.

    Args:
        recipe: What to train; its balancer is replaced.
        n: Number of trainings.
        data: As for :meth:`polytask.recipe.Recipe.run`.
        balancer: A method that takes a ``preference``: ``stch`` and ``tchebycheff`` choose a point of the front, also
            where it is not convex; ``mgda`` bends its path towards the preferred tasks.
        progress: Told about each step.

    Returns:
        Errors on the test rows, or on the validation rows if there are no test rows.

    Raises:
        RecipeError: If there are fewer than two tasks or preferences, or the method takes no preference.

    Example:
        >>> from polytask import Recipe
        >>> from polytask.data import related_regressions
        >>> made = related_regressions(2, 200, seed=0)
        >>> recipe = Recipe(tasks=list(made.targets), training={"epochs": 2})
        >>> front = pareto_front(recipe, 3, made.frame)
        >>> front.errors.shape, bool(front.is_dominated.all())
        ((3, 2), False)

    Note:
        Costs ``n`` trainings. Differences between neighbours on the front are often within the noise of one training;
        a study tells how large that is.

    References:
        Lin et al., "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", ICML 2024 (``stch``). Das and
        Dennis, "Normal-Boundary Intersection", SIAM Journal on Optimization 1998 (the even spread of preferences).
    """
    from polytask.balancing import registry
    from polytask.recipe import Choice

    names = tuple(recipe.tasks)
    if len(names) < 2 or n < 2:
        raise RecipeError(f"A front needs two tasks and two preferences at least, got {len(names)} and {n}.")
    registry.create(balancer, preference=[1.0] * len(names))
    chosen = preferences(len(names), n)
    errors = []
    for preference in chosen:
        weighed = Choice.model_validate(
            {"name": balancer, "preference": dict(zip(names, preference.tolist(), strict=True))}
        )
        run = recipe.model_copy(update={"balancer": weighed}).run(data, progress=progress)
        results = run.record.tasks
        errors.append([_error(results[name].metrics) for name in names])
    found = np.array(errors)
    return ParetoFront(names, chosen, found, dominated(found))


def preferences(n_tasks: int, n: int) -> np.ndarray:
    """``n`` preferences spread evenly over the simplex of ``n_tasks`` tasks, none of them zero; rows sum to 1.

    Two tasks: even steps. More: of the coarsest regular lattice with ``n`` points or more, those farthest apart.

    Example:
        >>> preferences(2, 3).round(2).tolist()
        [[0.05, 0.95], [0.5, 0.5], [0.95, 0.05]]
    """
    steps = 1
    while comb(steps + n_tasks - 1, n_tasks - 1) < n:
        steps += 1
    lattice = np.array(list(_compositions(steps, n_tasks)), dtype=float) / steps
    if len(lattice) > n:
        # The corners' neighbours first, then always the point farthest from those chosen.
        kept = [0]
        while len(kept) < n:
            distance = np.linalg.norm(lattice[:, None] - lattice[kept], axis=2).min(axis=1)
            kept.append(int(distance.argmax()))
        lattice = lattice[sorted(kept)]
    floor = 0.1 / n_tasks
    spread: np.ndarray = floor + (1 - floor * n_tasks) * lattice
    return spread


def dominated(errors: np.ndarray) -> np.ndarray:
    """Which rows have another row that is at least as low everywhere and lower somewhere; NaN counts as worst.

    Example:
        >>> dominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])).tolist()
        [False, False, True]
    """
    values = np.where(np.isnan(errors), np.inf, errors)
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    better = (values[:, None] < values[None]).any(axis=2)
    return np.asarray((no_worse & better).any(axis=0))


def _compositions(total: int, parts: int) -> Sequence[tuple[int, ...]]:
    if parts == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in _compositions(total - first, parts - 1)]


def _error(metrics: Any) -> float:
    value = metrics.get("relative_error")
    return float("nan") if value is None else float(value)


def _words(tasks: Sequence[str], preference: np.ndarray) -> str:
    return ", ".join(f"{task} {share:.2f}" for task, share in zip(tasks, preference, strict=True))
