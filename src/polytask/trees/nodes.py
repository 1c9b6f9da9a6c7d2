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

from polytask.errors import BundleError

__all__ = ["LabelSums", "Nodes", "check_trees", "chunks_of_trees"]

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
        owner: The task of each output.
        mass: Weight of the rows with an observed label, for each task.
        first: Weighted sum of each output.
        is_enough: Whether enough rows have an observed label, for each task.

    Shape:
        ``mass``, ``is_enough``: [nodes, tasks]; ``first``: [nodes, outputs].
    """

    owner: Indices
    mass: Floats
    first: Floats
    is_enough: NDArray[np.bool_]

    @classmethod
    def of(
        cls, nodes: Nodes, leaves: Indices, weight: Floats, outputs: Floats, owner: Indices, least_rows: int
    ) -> LabelSums:
        """Count and add.

        Args:
            nodes: The trees.
            leaves: The leaf of each row in each tree, numbered within its tree.
            weight: The weight of each row in each tree; zero outside its bag.
            outputs: Standardised outputs, NaN where the label is missing.
            owner: The task of each output, ascending.
            least_rows: How many rows with an observed label are enough.

        Shape:
            ``leaves``, ``weight``: [rows, trees]; ``outputs``: [rows, outputs]; ``owner``: [outputs].
        """
        row, tree = np.nonzero(weight)
        where, shape = (leaves[row, tree] + nodes.start[tree], row), (len(nodes), len(outputs))
        seen = ~np.isnan(outputs)
        seen_tasks = seen[:, _first_outputs(owner)].astype(np.float64)
        weighted = sparse.coo_array((weight[row, tree], where), shape=shape).tocsr()
        sums = np.asarray(weighted @ np.hstack([seen_tasks, np.where(seen, outputs, 0.0)]))
        nodes.add_up(sums)
        mass, first = np.split(sums, [seen_tasks.shape[1]], axis=1)
        if least_rows <= 1:  # then one row of any weight is enough and need not be counted
            return cls(owner, mass, first, mass > 0)
        rows = np.asarray(sparse.coo_array((np.ones(len(row)), where), shape=shape).tocsr() @ seen_tasks)
        nodes.add_up(rows)
        return cls(owner, mass, first, rows >= least_rows)

    def means(self, nodes: Nodes) -> Floats:
        """Mean output of each node; one without enough observed labels takes its parent's.

        A root without labels of a task has the value 0: the mean over all rows.
        """
        mass = self.mass[:, self.owner]
        values = np.divide(self.first, mass, out=np.zeros_like(self.first), where=mass > 0)
        if not self.is_enough.all():
            nodes.back_off(values, self.is_enough[:, self.owner])
        return values

    def falls(self, nodes: Nodes, n_inputs: int) -> Floats:
        """Fall of the weighted variance by splits on each input, for each tree and task.

        The sums of squares of the children add up to the parent's, so the fall is the rise of (sum)² / weight.

        Shape:
            Answers [trees, tasks, inputs].
        """
        mass = self.mass[:, self.owner]
        energy = np.divide(self.first**2, mass, out=np.zeros_like(self.first), where=mass > 0)
        energy = np.add.reduceat(energy, _first_outputs(self.owner), axis=1)
        inner = np.flatnonzero(nodes.left >= 0)
        fall = np.maximum(energy[nodes.left[inner]] + energy[nodes.right[inner]] - energy[inner], 0.0)
        n_trees, n_tasks = len(nodes.start) - 1, self.mass.shape[1]
        place = nodes.tree[inner] * n_inputs + nodes.feature[inner]
        total = np.stack([np.bincount(place, weights=task, minlength=n_trees * n_inputs) for task in fall.T], axis=1)
        total = total.reshape(n_trees, n_inputs, n_tasks).transpose(0, 2, 1)
        root_mass = self.mass[nodes.start[:-1]]
        return np.asarray(total / np.where(root_mass > 0, root_mass, 1.0)[:, :, None])


def _first_outputs(owner: Indices) -> Indices:
    """The first output of each task."""
    return np.searchsorted(owner, np.arange(int(owner[-1]) + 1))


def chunks_of_trees(trees: Sequence[Any], n_columns: int, n_rows: int, budget: int = 500_000) -> list[slice]:
    """Split the trees so that the sums of one chunk hold about ``budget`` numbers at most."""
    cost = [tree.tree_.node_count * n_columns + 4 * n_rows for tree in trees]
    group = np.cumsum(cost) // budget
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(trees)]
    return [slice(a, b) for a, b in pairwise(edges)]


def check_trees(trees: Sequence[Any], n_inputs: int, n_outputs: int) -> None:
    """Check that every node of the trees leads to a node, an input and a value that are there.

    Scikit-learn follows the nodes' numbers without looking; in a damaged or forged file they may lead anywhere.

    Raises:
        BundleError: If one does not.
    """
    for position, tree in enumerate(trees):
        nodes = tree.tree_
        own = np.arange(nodes.node_count)
        inner = nodes.children_left != -1
        is_forward = np.ones(len(own), dtype=bool)
        for child in (nodes.children_left, nodes.children_right):
            is_forward &= np.where(inner, (child > own) & (child < len(own)), child == -1)
        is_input = ~inner | ((nodes.feature >= 0) & (nodes.feature < n_inputs))
        has_shape = nodes.n_features == n_inputs and nodes.value.shape == (len(own), n_outputs, 1)
        if not (len(own) and has_shape and is_forward.all() and is_input.all()):
            raise BundleError(f"Tree {position} of the forest is damaged: a node leads to what is not there.")
