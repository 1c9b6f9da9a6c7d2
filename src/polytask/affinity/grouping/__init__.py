"""Groups of tasks under a budget, from predicted gains: exact for few tasks, a heuristic for many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polytask.affinity.grouping.budget import GroupBudget
from polytask.affinity.grouping.exact import best_groups
from polytask.affinity.grouping.heuristic import good_groups
from polytask.affinity.grouping.score import Group, total_gain
from polytask.affinity.record import Arrangement
from polytask.training.progress import Progress

__all__ = ["EXACT_UP_TO", "GroupBudget", "arrangement", "group_tasks", "random_groups"]

EXACT_UP_TO = 12
"""Number of tasks up to which no better arrangement exists than the one that is found."""


def group_tasks(
    gains: np.ndarray,
    names: Sequence[str],
    budget: GroupBudget,
    *,
    exact: bool | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Arrangement:
    r"""The arrangement of the largest predicted gain within a budget.

    Each task j is served by one group g; groups may overlap, so that a task may help in a group that does not serve it:

    .. math:: \max \frac{1}{T} \sum_j S(j, g(j)), \qquad
        S(j, g) = \frac{1}{|g| - 1} \sum_{i \in g, i \ne j} A_{ij}, \qquad S(j, \{j\}) = 0.

    Args:
        gains: ``[T, T]``: what task i does for task j, above zero if good. NaN counts as zero: nothing is known.
        names: The tasks.
        budget: How many models, or how much in all.
        exact: Whether to search exactly; up to 12 tasks if ``None``.
        seed: Of the heuristic's starts.
        progress: Told how far the search is.

    Raises:
        RecipeError: If the matrix does not fit the names, or the budget has no room for any arrangement.

    Example:
        >>> gains = np.array([[0, 1, -1], [1, 0, -1], [-1, -1, 0.0]])
        >>> found = group_tasks(gains, ["a", "b", "c"], GroupBudget(models=2))
        >>> found.groups, round(found.predicted, 3)
        ((('a', 'b'), ('c',)), 0.667)

    Note:
        That a group's effect is the mean of its pairs' effects is an assumption, checked by training (see the verified
        score). Exact means: of the predicted score. At 12 tasks the exact search takes about a second; time
        grows as 3^T.

    References:
        Standley et al., "Which tasks should be learned together in multi-task learning?", ICML 2020, section 5 (search
        over overlapping groups by branch and bound); Fifty et al., "Efficiently identifying task groupings for
        multi-task learning", NeurIPS 2021, section 3.3 (the score).
    """
    known = np.nan_to_num(np.asarray(gains, dtype=np.float64))
    budget.check(known, names)
    is_exact = len(names) <= EXACT_UP_TO if exact is None else exact
    groups = best_groups(known, budget, progress) if is_exact else good_groups(known, budget, seed, progress)
    return arrangement(groups, known, names, budget)


def arrangement(
    groups: Sequence[Group], gains: np.ndarray, names: Sequence[str], budget: GroupBudget | None = None
) -> Arrangement:
    """Groups as plain data with their predicted gain; groups in the order of their first served task."""
    known = np.nan_to_num(np.asarray(gains, dtype=np.float64))
    ordered = sorted(groups, key=lambda group: min(group.serves))
    rule = budget or GroupBudget(models=len(names))
    return Arrangement(
        groups=tuple(tuple(names[i] for i in sorted(group.tasks)) for group in ordered),
        serves=tuple(tuple(names[i] for i in sorted(group.serves)) for group in ordered),
        predicted=round(total_gain(ordered, known) / len(names), 8),
        models=len(ordered),
        cost=round(rule.cost_of(ordered), 6),
    )


def random_groups(like: Sequence[Group], n_tasks: int, rng: np.random.Generator) -> list[Group]:
    """Groups of the same sizes, each with as many served tasks and helpers, of tasks at random."""
    order = rng.permutation(n_tasks).tolist()
    made = []
    for group in like:
        serves = [order.pop() for _ in group.serves]
        others = [i for i in range(n_tasks) if i not in serves]
        helpers = rng.choice(others, len(group.tasks) - len(group.serves), replace=False).tolist() if others else []
        made.append(Group(frozenset([*serves, *helpers]), frozenset(serves)))
    return made
