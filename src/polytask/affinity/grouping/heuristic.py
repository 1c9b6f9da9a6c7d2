"""Good groups of many tasks: clusters that are moved task by task until nothing helps, with helpers from outside."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from polytask.affinity.grouping.budget import GroupBudget
from polytask.affinity.grouping.score import Group, total_gain
from polytask.training.progress import Progress, counted

__all__ = ["good_groups"]

_STARTS = 6
_FEW = 40
_SWEEPS = 30


def good_groups(gains: np.ndarray, budget: GroupBudget, seed: int = 0, progress: Progress | None = None) -> list[Group]:
    """Groups of a large total gain within the budget.

    From average-link clusters of every number of groups that there is room for (of ten of them, evenly spread), and
    from partitions at random: each task in turn goes where the total gain is largest, until no move helps. The best
    of these (of up to 40 tasks, all) go on with helpers: a group's worth is that with the helpers from outside that
    help the tasks which it serves, and tasks move between groups until no move makes the sum larger.

    Args:
        gains: ``[T, T]`` without NaN.
        budget: What may be spent.
        seed: Of the random starts.
        progress: Told how far the search is.

    Note:
        On matrices of pure noise, the hardest case, it reached 0.93 to 1 of the exact optimum at 8 to 12 tasks, and
        0.99 on average; where groups are planted it finds them (``tests/unit/affinity/test_grouping.py``).
    """
    n_tasks = len(gains)
    off = gains - np.diag(np.diag(gains))
    most = budget.most_models(n_tasks)
    starts = _starts(off, most, seed)
    partitions = [(_moved(labels, off, k), k) for labels, k in counted(starts, "groups", len(starts), progress)]
    found: list[list[Group]] = []
    prices = _prices(off, budget)
    for price in counted(prices, "groups with helpers", len(prices), progress):
        worth = _Worth(off, budget, price)
        best_first = sorted(partitions, key=lambda pair: -worth.of(pair[0]))[: None if n_tasks <= _FEW else 1]
        for labels, k in best_first:
            for tried in (labels, _moved_with_helpers(labels, worth, k)):
                found.append(_paid(worth.groups(tried), off, budget))
    everything = frozenset(range(n_tasks))
    found += [[Group(everything, everything)], [Group(frozenset([j]), frozenset([j])) for j in range(n_tasks)]]
    # Of equal gains, the fewest models.
    return max(
        (groups for groups in found if budget.allows(groups)), key=lambda g: (round(total_gain(g, off), 12), -len(g))
    )


def _prices(off: np.ndarray, budget: GroupBudget) -> list[float]:
    """Prices of cost to try: none where heads are free, because the number of models is all that is spent."""
    if budget.cost is None or not budget.head_cost:
        return [0.0]
    return [0.0, *(np.geomspace(0.01, 2.0, 8) * float(np.abs(off).max())).tolist()]


def _starts(off: np.ndarray, most: int, seed: int) -> list[tuple[np.ndarray, int]]:
    """Partitions to start from, each with the number of groups that it may use: cuts of a tree, and random ones."""
    n_tasks = len(off)
    if n_tasks == 1:
        return [(np.zeros(1, dtype=int), 1)]
    both = (off + off.T) / 2
    distance = both.max() - both
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), "average")
    numbers = sorted({*np.linspace(1, most, min(most, 10)).round().astype(int).tolist()})
    rng = np.random.default_rng(seed)
    starts = [(fcluster(tree, k, "maxclust") - 1, k) for k in numbers]
    drawn = [(rng.integers(0, k, n_tasks), k) for k in (numbers if n_tasks <= _FEW else [most]) for _ in range(_STARTS)]
    return starts + drawn


def _moved(labels: np.ndarray, off: np.ndarray, k: int) -> np.ndarray:
    """Move one task at a time to the group where the total gain is largest, without helpers."""
    labels = labels.copy()
    for _ in range(_SWEEPS):
        is_moved = False
        for j in range(len(labels)):
            member = np.eye(k)[labels]
            member[j] = 0.0
            size = member.sum(0)
            inside = ((off @ member) * member).sum(0)
            joined = (inside + off[:, j] @ member + off[j] @ member) / np.maximum(size, 1)
            change = joined - inside / np.maximum(size - 1, 1)
            target = int(np.argmax(change))
            if change[target] > change[labels[j]] + 1e-12:
                labels[j] = target
                is_moved = True
        if not is_moved:
            break
    return labels


class _Worth:
    """What a set of served tasks is worth with its best helpers, less the price of what it costs; remembered."""

    def __init__(self, off: np.ndarray, budget: GroupBudget, price: float = 0.0):
        self.off, self.budget, self.price = off, budget, price
        self._known: dict[frozenset[int], tuple[float, frozenset[int]]] = {}

    def at(self, served: frozenset[int]) -> tuple[float, frozenset[int]]:
        """Gain of the served tasks less the price, and the whole group."""
        if served not in self._known:
            self._known[served] = self._search(served)
        return self._known[served]

    def of(self, labels: np.ndarray) -> float:
        """Worth of a partition."""
        return sum(self.at(served)[0] for served in _blocks(labels))

    def groups(self, labels: np.ndarray) -> list[Group]:
        """A partition's groups, with their helpers."""
        return [Group(self.at(served)[1], served) for served in _blocks(labels)]

    def _search(self, served: frozenset[int]) -> tuple[float, frozenset[int]]:
        if not served:
            return 0.0, served
        columns = sorted(served)
        does = self.off[:, columns].sum(1)  # what each task does for the served ones
        chosen = np.zeros(len(self.off), dtype=bool)
        chosen[columns] = True
        total, size = float(does[chosen].sum()), len(columns)
        gain = total / max(size - 1, 1)
        # The mean over a group is largest with the strongest helpers, so they join in the order of what they do.
        for i in np.argsort(-does, kind="stable"):
            if chosen[i]:
                continue
            if (total + does[i]) / size <= gain + self.price * self.budget.head_cost + 1e-12:
                break
            chosen[i] = True
            total, size = total + float(does[i]), size + 1
            gain = total / (size - 1)
        return gain - self.price * self.budget.group_cost(size), frozenset(np.flatnonzero(chosen).tolist())


def _moved_with_helpers(labels: np.ndarray, worth: _Worth, k: int) -> np.ndarray:
    """Move one task at a time where the sum of the groups' worth, helpers included, is largest."""
    blocks = [frozenset(np.flatnonzero(labels == position).tolist()) for position in range(k)]
    for _ in range(_SWEEPS):
        is_moved = False
        for j in range(len(labels)):
            home = next(position for position, block in enumerate(blocks) if j in block)
            left = worth.at(blocks[home] - {j})[0] - worth.at(blocks[home])[0]
            tried = [
                left + worth.at(block | {j})[0] - worth.at(block)[0] if position != home else 0.0
                for position, block in enumerate(blocks)
            ]
            target = int(np.argmax(tried))
            if tried[target] > 1e-12:
                blocks[home], blocks[target] = blocks[home] - {j}, blocks[target] | {j}
                is_moved = True
        if not is_moved:
            break
    moved = labels.copy()
    for position, block in enumerate(blocks):
        moved[sorted(block)] = position
    return moved


def _paid(groups: list[Group], off: np.ndarray, budget: GroupBudget) -> list[Group]:
    """The groups with as many of their helpers as the budget allows: those that matter least go first."""
    while not budget.allows(groups):
        fewer = [
            [*groups[:p], Group(group.tasks - {helper}, group.serves), *groups[p + 1 :]]
            for p, group in enumerate(groups)
            for helper in group.tasks - group.serves
        ]
        if not fewer:
            break
        groups = max(fewer, key=lambda tried: total_gain(tried, off))
    return groups


def _blocks(labels: np.ndarray) -> Iterable[frozenset[int]]:
    for position in np.unique(labels):
        yield frozenset(np.flatnonzero(labels == position).tolist())
