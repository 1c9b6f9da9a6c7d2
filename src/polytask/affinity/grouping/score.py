"""What a group of tasks is predicted to be worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Group", "scores_in", "total_gain"]


@dataclass(frozen=True)
class Group:
    """Tasks that are learned together.

    Args:
        tasks: All of them, by position.
        serves: Those that this group's network answers; the others only help.
    """

    tasks: frozenset[int]
    serves: frozenset[int]


def scores_in(tasks: Iterable[int], gains: np.ndarray) -> dict[int, float]:
    """Predicted gain of each task of a group: the mean of what the others do for it; zero alone.

    Example:
        >>> scores_in([0, 1], np.array([[0, 0.2], [0.4, 0]]))
        {0: 0.4, 1: 0.2}
    """
    members = sorted(tasks)
    if len(members) == 1:
        return {members[0]: 0.0}
    inside = gains[np.ix_(members, members)]
    sums = inside.sum(0) - np.diag(inside)
    return {j: float(value) / (len(members) - 1) for j, value in zip(members, sums, strict=True)}


def total_gain(groups: Sequence[Group], gains: np.ndarray) -> float:
    """Sum over all tasks of the predicted gain in the group that serves them."""
    total = 0.0
    for group in groups:
        scores = scores_in(group.tasks, gains)
        total += sum(scores[j] for j in group.serves)
    return total
