"""Statistics of observed labels in every node of a forest, all trees at once.

The trees' nodes are laid end to end. Rows fall into leaves (one sparse product), leaves add up into their ancestors
(one step a level, from the deepest), and a node with too few observed labels of a task takes its parent's mean
(one step a level, from the roots). No Python loop runs over rows, nodes or trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["LabelSums", "Nodes", "chunks_of_trees"]

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Nodes:
    """The nodes of some trees, end to end.

    Args:
        start: Where each tree begins, and the end.
        left: Left child of each node, -1 at a leaf.
        right: Right child of each node, -1 at a leaf.
        feature: Input on which each node splits, negative at a leaf.
        levels: Nodes by depth: the roots first.
    """

    start: Indices
    left: Indices
    right: Indices
    feature: Indices
    levels: list[Indices]

    @classmethod
    def of(cls, trees: Sequence[Any]) -> Nodes:
        """Read the nodes of fitted scikit-learn trees."""
        sizes = [tree.tree_.node_count for tree in trees]
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
        shift = np.repeat(start[:-1], sizes)
        left, right = (
            np.concatenate([getattr(tree.tree_, side) for tree in trees])
            for side in ("children_left", "children_right")
        )
        left, right = np.where(left < 0, -1, left + shift), np.where(right < 0, -1, right + shift)
        levels, level = [], start[:-1]
        while len(level):
            levels.append(level)
            inner = level[left[level] >= 0]
            level = np.concatenate([left[inner], right[inner]])
        return cls(start, left, right, np.concatenate([tree.tree_.feature for tree in trees]), levels)

    def __len__(self) -> int:
        return int(self.start[-1])

    @property
    def tree(self) -> Indices:
        """The tree of each node."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def add_up(self, sums: Floats) -> None:
        """Add the leaves' rows of ``sums`` into all their ancestors, in place."""
        for level in reversed(self.levels[:-1]):
            inner = level[self.left[level] >= 0]
            sums[inner] = sums[self.left[inner]] + sums[self.right[inner]]

    def back_off(self, values: Floats, is_enough: NDArray[np.bool_]) -> None:
        """Where a node has not enough, take the parent's value, in place; the roots keep theirs."""
        for level in self.levels[:-1]:
            inner = level[self.left[level] >= 0]
            for child in (self.left[inner], self.right[inner]):
                values[child] = np.where(is_enough[child], values[child], values[inner])


@dataclass(frozen=True)
class LabelSums:
    """Sums over the observed labels in each node.

    Args:
        rows: Rows with an observed label, for each task.
        mass: Their weight, for each task.
        first: Weighted sum of each output.
        second: Weighted sum of each output's square.

    Shape:
        ``rows``, ``mass``: [nodes, tasks]; ``first``, ``second``: [nodes, outputs].
    """

    rows: Floats
    mass: Floats
    first: Floats
    second: Floats

    @classmethod
    def of(cls, nodes: Nodes, leaves: Indices, weight: Floats, outputs: Floats, owner: Indices) -> LabelSums:
        """Count and add.

        Args:
            nodes: The trees.
            leaves: The leaf of each row in each tree, numbered within its tree.
            weight: The weight of each row in each tree; zero outside its bag.
            outputs: Standardised outputs, NaN where the label is missing.
            owner: The task of each output.

        Shape:
            ``leaves``, ``weight``: [rows, trees]; ``outputs``: [rows, outputs]; ``owner``: [outputs].
        """
        n_tasks, n_outputs = int(owner[-1]) + 1, len(owner)
        row, tree = np.nonzero(weight)
        shape = (len(nodes), len(outputs))
        where = (leaves[row, tree] + nodes.start[tree], row)
        seen = ~np.isnan(outputs)
        filled = np.where(seen, outputs, 0.0)
        seen_tasks = seen[:, np.searchsorted(owner, np.arange(n_tasks))].astype(np.float64)
        rows = np.asarray(sparse.coo_array((np.ones(len(row)), where), shape=shape).tocsr() @ seen_tasks)
        weighted = sparse.coo_array((weight[row, tree], where), shape=shape).tocsr()
        sums = np.asarray(weighted @ np.hstack([seen_tasks, filled, filled**2]))
        nodes.add_up(rows)
        nodes.add_up(sums)
        return cls(rows, *np.split(sums, [n_tasks, n_tasks + n_outputs], axis=1))

    def means(self, nodes: Nodes, owner: Indices, min_rows: float) -> Floats:
        """Mean output of each node; one with fewer than ``min_rows`` observed labels takes its parent's.

        A root without labels of a task has the value 0: the mean over all rows.
        """
        mass = self.mass[:, owner]
        values = np.divide(self.first, mass, out=np.zeros_like(self.first), where=mass > 0)
        nodes.back_off(values, (self.rows >= max(min_rows, 1))[:, owner])
        return values

    def importances(self, nodes: Nodes, owner: Indices, n_features: int) -> Floats:
        """Decrease of the weighted variance by each input, for each tree and task.

        Shape:
            Answers [trees, tasks, inputs].
        """
        mass = self.mass[:, owner]
        spread = self.second - np.divide(self.first**2, mass, out=np.zeros_like(self.first), where=mass > 0)
        inner = np.flatnonzero(nodes.left >= 0)
        fall = np.maximum(spread[inner] - spread[nodes.left[inner]] - spread[nodes.right[inner]], 0.0)
        n_trees, n_tasks = len(nodes.start) - 1, self.mass.shape[1]
        place = nodes.tree[inner] * n_features + nodes.feature[inner]
        total = np.zeros((n_tasks, n_trees * n_features))
        for output, task in enumerate(owner):
            total[task] += np.bincount(place, weights=fall[:, output], minlength=n_trees * n_features)
        root_mass = self.mass[nodes.start[:-1]].T
        per_tree = total.reshape(n_tasks, n_trees, n_features)
        per_tree /= np.where(root_mass > 0, root_mass, 1.0)[:, :, None]
        return per_tree.transpose(1, 0, 2)


def chunks_of_trees(trees: Sequence[Any], n_columns: int, n_rows: int, budget: int = 8_000_000) -> list[slice]:
    """Split the trees so that the sums of one chunk hold about ``budget`` numbers at most."""
    cost = [tree.tree_.node_count * n_columns + 4 * n_rows for tree in trees]
    group = np.cumsum(cost) // budget
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(trees)]
    return [slice(a, b) for a, b in pairwise(edges)]
