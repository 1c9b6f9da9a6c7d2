"""The best groups within a budget, exactly: branch and bound over partitions of the tasks into served sets."""

from __future__ import annotations

import numpy as np

from polytask.affinity.grouping.budget import GroupBudget
from polytask.affinity.grouping.score import Group
from polytask.training.progress import Progress, counted

__all__ = ["best_groups"]

_PRICES = 6


def best_groups(gains: np.ndarray, budget: GroupBudget, progress: Progress | None = None) -> list[Group]:
    """The arrangement of the largest total gain; of equal ones, that of the fewest models.

    Each task is served once, so the served sets are a partition; a set s is served best by the group ``g >= s`` of
    the largest gain of its members. Without a limit on the cost, the best partition into at most k sets follows by
    dynamic programming over subsets; with one, that value is a bound of a depth-first search over sets and sizes of
    groups, which stops a branch as soon as it could not beat what is known. A second bound prices the cost: for any
    price p, no arrangement of what is left is better than the best of gain less p times cost, plus p times what may
    still be spent.

    Args:
        gains: ``[T, T]`` without NaN.
        budget: What may be spent.
        progress: Told how far the tables are; the search after them is short.
    """
    tables = _Tables(gains, progress)
    most = budget.most_models(len(gains))
    parts = _parts(tables.n)
    bounds = _bounds(tables.best.max(1), most, parts, progress)
    search = _Search(tables, bounds, _priced(tables, budget, parts, progress), budget)
    full = (1 << tables.n) - 1
    # With fewer models first, so that of equal gains the smaller arrangement is kept.
    for k in range(1, most + 1):
        if bounds[k][full] > search.gain + 1e-12:
            search.go(full, k, 0.0, 0.0, [])
    return search.groups


class _Tables:
    """For every set of tasks that is served, and every size of the group that serves it, the best gain and group."""

    def __init__(self, gains: np.ndarray, progress: Progress | None = None):
        n = self.n = len(gains)
        masks = np.arange(1 << n)
        member = (masks[:, None] >> np.arange(n)) & 1
        self.size = member.sum(1)
        # Row g, column j: what the members of g do for j, a mean over the others.
        off = gains - np.diag(np.diag(gains))
        scores = (member @ off) / np.maximum(self.size - 1, 1)[:, None]
        self.best = np.full((1 << n, n + 1), -np.inf)
        self.group = np.zeros((1 << n, n + 1), dtype=np.int64)
        for served in counted(range(1, 1 << n), "groups: what each set gains", (1 << n) - 1, progress):
            above = served | _subsets(((1 << n) - 1) ^ served)
            found = scores[above][:, member[served].astype(bool)].sum(1)
            # The last write of a size is that of its largest gain, because they come in rising order.
            order = np.argsort(found, kind="stable")
            sizes = self.size[above[order]]
            self.best[served, sizes] = found[order]
            self.group[served, sizes] = above[order]


def _subsets(mask: int) -> np.ndarray:
    """All subsets of a set, as numbers."""
    found = np.zeros(1, dtype=np.int64)
    bit = 1
    while bit <= mask:
        if mask & bit:
            found = np.concatenate([found, found | bit])
        bit <<= 1
    return found


def _parts(n: int) -> dict[int, np.ndarray]:
    """For every set of tasks, in rising order, its subsets with its first task."""
    firsts = {left: left & -left for left in range(1, 1 << n)}
    return {left: first | _subsets(left ^ first) for left, first in firsts.items()}


def _bounds(
    best: np.ndarray, most: int, parts: dict[int, np.ndarray], progress: Progress | None = None
) -> list[np.ndarray]:
    """Entry k, set S: the largest gain of S in at most k groups, whatever they cost."""
    bounds = [np.full(len(best), -np.inf), best.copy()]
    bounds[0][0] = bounds[1][0] = 0.0
    for k in range(2, most + 1):
        now = bounds[k - 1].copy()
        for left, served in counted(parts.items(), f"groups: at most {k}", len(parts), progress):
            now[left] = max(now[left], (best[served] + bounds[k - 1][left ^ served]).max())
        bounds.append(now)
    return bounds


def _best_partition(worth: np.ndarray, parts: dict[int, np.ndarray]) -> np.ndarray:
    """For every set the largest worth of a partition into any number of groups."""
    best = worth.copy()
    best[0] = 0.0
    for left, served in parts.items():  # what is left after the first group comes before, being a smaller number
        best[left] = (worth[served] + best[left ^ served]).max()
    return best


def _priced(
    tables: _Tables, budget: GroupBudget, parts: dict[int, np.ndarray], progress: Progress | None
) -> list[tuple[float, np.ndarray]]:
    """Prices of cost, and for each the largest gain less price times cost of every set of tasks."""
    if budget.cost is None:
        return []
    found: list[tuple[float, np.ndarray]] = []
    full = (1 << tables.n) - 1
    costs = np.array([budget.group_cost(max(size, 1)) for size in range(tables.n + 1)])

    def bound_at(price: float) -> float:
        worth = (tables.best - price * costs).max(1)
        bound = _best_partition(worth, parts)
        found.append((price, bound))
        return float(bound[full] + price * budget.cost) if budget.cost is not None else np.inf

    # The bound is convex in the price: golden section finds the price that tells most.
    low, high = 0.0, float(np.abs(tables.best[np.isfinite(tables.best)]).max()) + 1e-9
    for _ in counted(range(_PRICES), "groups: prices of the cost", _PRICES, progress):
        a, b = low + 0.382 * (high - low), low + 0.618 * (high - low)
        low, high = (low, b) if bound_at(a) <= bound_at(b) else (a, high)
    return sorted(found, key=lambda pair: pair[1][full] + pair[0] * (budget.cost or 0.0))[:4]


class _Search:
    def __init__(
        self,
        tables: _Tables,
        bounds: list[np.ndarray],
        priced: list[tuple[float, np.ndarray]],
        budget: GroupBudget,
    ):
        self.tables, self.bounds, self.priced, self.budget = tables, bounds, priced, budget
        self.gain = -np.inf
        self.groups: list[Group] = []

    def go(self, left: int, models: int, gain: float, cost: float, chosen: list[tuple[int, int]]) -> None:
        """Serve what is left with at most so many groups more."""
        if not left:
            if gain > self.gain + 1e-12:
                self.gain = gain
                self.groups = [Group(_members(group), _members(served)) for served, group in chosen]
            return
        first = left & -left
        served = first | _subsets(left ^ first)
        rest = self.bounds[models - 1][left ^ served]
        best = self.tables.best[served]
        for position in np.argsort(-(best.max(1) + rest), kind="stable"):
            if gain + best[position].max() + rest[position] <= self.gain + 1e-12:
                break
            self._sizes(int(served[position]), left, models, gain, cost, chosen)

    def _sizes(
        self, served: int, left: int, models: int, gain: float, cost: float, chosen: list[tuple[int, int]]
    ) -> None:
        rest = self.bounds[models - 1][left ^ served]
        best = self.tables.best[served]
        for size in np.argsort(-best, kind="stable"):
            total = gain + best[size]
            if total + rest <= self.gain + 1e-12:
                break
            spent = cost + self.budget.group_cost(int(size))
            if self._is_hopeless(left ^ served, total, spent):
                continue
            group = int(self.tables.group[served, size])
            self.go(left ^ served, models - 1, total, spent, [*chosen, (served, group)])

    def _is_hopeless(self, left: int, gain: float, cost: float) -> bool:
        """Whether what is left cannot be paid, or not so well that it would beat what is known."""
        if self.budget.cost is None:
            return False
        free = self.budget.cost - cost + 1e-9
        least = 1.0 if left else 0.0  # whatever is left takes one group more at least
        return free < least or any(
            gain + bound[left] + price * free <= self.gain + 1e-12 for price, bound in self.priced
        )


def _members(mask: int) -> frozenset[int]:
    return frozenset(i for i in range(mask.bit_length()) if mask >> i & 1)
