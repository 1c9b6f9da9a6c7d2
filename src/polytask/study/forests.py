"""What the arms that grow forests have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from polytask.trees import JointForest

__all__ = ["SMOOTHING", "TREES", "choice_of", "kind_of", "options_of", "stripped"]

TREES = 200

SMOOTHING = 1 / (TREES + 1)
"""As if one more tree knew nothing: a forest's shares of 0 and 1 would cost an infinite log loss."""

Grid = Mapping[str, Sequence[Any]]
_OPTIONS = {"leaves": "min_samples_leaf", "features": "max_features", "splits": "splits"}


def choice_of(best: Mapping[str, Any], grid: Grid) -> float:
    """The position in the grid of what a search found best."""
    wanted = tuple(best[option] for option in _OPTIONS.values())
    return float(_combinations(grid).index(wanted))


def options_of(choice: float, grid: Grid) -> dict[str, Any]:
    """The forest's options at a position in the grid."""
    return dict(zip(_OPTIONS.values(), _combinations(grid)[int(choice)], strict=True))


def kind_of(what: str, n_classes: int) -> str:
    """The kind of target that a forest takes a column for."""
    if what != "classes":
        return "regression"
    return "binary" if n_classes == 2 else "multiclass"


def stripped(forest: JointForest) -> JointForest:
    """The forest without its out-of-bag answers, which are about training rows and as many; it predicts in one thread.

    Several threads add up the trees' answers in the order in which they finish, so that the last digit is chance.
    """
    forest.n_jobs = forest.forest_.n_jobs = None
    if hasattr(forest, "oob_mean_"):
        del forest.oob_mean_
    return forest


def _combinations(grid: Grid) -> list[tuple[Any, ...]]:
    return list(product(*(grid[name] for name in _OPTIONS)))
