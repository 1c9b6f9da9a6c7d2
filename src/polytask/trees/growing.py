"""Growing the trees when labels are missing, and speaking from their leaves by observed labels only.

Scikit-learn's trees need a full matrix of targets, so where a split is sought a missing label must have a stand-in.
The stand-in decides where the trees split and nothing else: leaf values, out-of-bag predictions and importances are
then computed from observed labels alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.utils import check_random_state
from sklearn.utils.fixes import parse_version

from polytask.errors import RecipeError
from polytask.trees.nodes import LabelSums, Nodes, chunks_of_trees

__all__ = ["FILLS", "SPLITS", "Grown", "Labelled", "Plan", "grow", "normalised_importances"]

Floats = NDArray[np.float64]

SPLITS = {"random": ExtraTreesRegressor, "best": RandomForestRegressor}
FILLS = ("mean", "oob")
# Since 1.9 the rows of a bag are drawn in proportion to their weights; before, the weights multiplied the counts.
_WEIGHTS_ARE_DRAWN = parse_version(sklearn.__version__) >= parse_version("1.9")


@dataclass(frozen=True)
class Plan:
    """How to grow: the choices of a joint forest.

    Args:
        splits: A key of :data:`SPLITS`.
        fill: A member of :data:`FILLS`.
        options: Keyword arguments of the scikit-learn forest.
        rounds: Forests grown for stand-ins before the final one.
    """

    splits: str
    fill: str
    options: dict[str, Any]
    rounds: int = 1


@dataclass(frozen=True)
class Labelled:
    """Rows with at least one label.

    Args:
        X: Inputs, float32, NaN where missing.
        outputs: Standardised outputs, NaN where a label is missing.
        owner: The task of each output.
        stretch: Factor of each output while splits are sought: the root of its task's weight.
        weight: Weight of each row, above zero; None if all are alike.
    """

    X: NDArray[np.float32]
    outputs: Floats
    owner: NDArray[np.intp]
    stretch: Floats
    weight: Floats | None


@dataclass(frozen=True)
class Grown:
    """A forest whose leaf values are means over observed labels.

    Args:
        forest: The scikit-learn forest.
        oob: Out-of-bag mean of each row and output, NaN for a row in every bag; None without bootstrap.
        falls: Fall of the variance for each tree, task and input.
    """

    forest: Any
    oob: Floats | None
    falls: Floats


def grow(plan: Plan, rows: Labelled) -> Grown:
    """Grow a joint forest.

    With ``fill="mean"`` a missing label stands at its task's mean. With ``fill="oob"`` a forest grown so, on bootstrap
    samples, gives calibrated out-of-bag predictions, and these stand in for the second, final forest.

    Note:
        More rounds than one gained nothing when measured (``bench/trees_missing.py``).
    """
    filled = np.nan_to_num(rows.outputs, nan=0.0)
    options = dict(plan.options)
    if plan.fill == "oob" and np.isnan(rows.outputs).any():
        rng = check_random_state(options["random_state"])
        for seed in rng.randint(np.iinfo(np.int32).max, size=plan.rounds):
            first = _fit(plan.splits, {**options, "bootstrap": True, "random_state": int(seed)}, rows, filled)
            filled = np.where(np.isnan(rows.outputs), _calibrated(speak(first, rows).oob, rows), rows.outputs)
    return speak(_fit(plan.splits, options, rows, filled), rows)


def speak(forest: Any, rows: Labelled) -> Grown:
    """Give every node the mean of its observed labels, and compute what follows from them.

    A node with fewer observed in-bag labels of a task than ``min_samples_leaf`` takes its parent's mean.
    """
    n_rows, n_outputs = rows.outputs.shape
    trees, leaves = forest.estimators_, forest.apply(rows.X)
    bags = forest.estimators_samples_ if forest.bootstrap else None
    oob, times = np.zeros((n_rows, n_outputs)), np.zeros(n_rows)
    falls, least_rows = [], _least_rows(forest.min_samples_leaf, n_rows)
    for part in chunks_of_trees(trees, 2 * n_outputs + 2 * (int(rows.owner[-1]) + 1), n_rows):
        nodes = Nodes.of(trees[part])
        weight = _bag_weights(None if bags is None else bags[part], rows, len(trees[part]))
        sums = LabelSums.of(nodes, leaves[:, part], weight, rows.outputs, rows.owner, least_rows)
        values = sums.means(nodes)
        falls.append(sums.falls(nodes, rows.X.shape[1]))
        for position, tree in enumerate(trees[part]):
            own = values[nodes.start[position] : nodes.start[position + 1]]
            tree.tree_.value[:, :, 0] = own
            out = np.flatnonzero(weight[:, position] == 0)
            oob[out] += own[leaves[out, part.start + position]]
            times[out] += 1
    means = np.divide(oob, times[:, None], out=np.full_like(oob, np.nan), where=times[:, None] > 0)
    return Grown(forest, None if bags is None else means, np.concatenate(falls))


def normalised_importances(falls: Floats, task_weights: Floats) -> tuple[Floats, Floats]:
    """Shares of the inputs for each task, and for all tasks by their weights: each tree's sum to one, then the mean.

    Shape:
        ``falls``: [trees, tasks, inputs]. Answers [tasks, inputs] and [inputs].
    """
    together = np.concatenate([falls, np.einsum("mtd,t->md", falls, task_weights)[:, None]], axis=1)
    for axes in (2, (0, 2)):  # each tree to a sum of one, then the mean over the trees that split
        total = together.sum(axis=axes, keepdims=True)
        together = np.divide(together, total, out=np.zeros_like(together), where=total > 0)
    shares = together.sum(axis=0)
    return shares[:-1], shares[-1]


def _calibrated(predicted: Floats | None, rows: Labelled) -> Floats:
    """Out-of-bag predictions, centred and shrunk by the slope of the observed labels on them.

    Predictions that say little about the labels seen would add noise to the splits; their slope is near 0.
    """
    assert predicted is not None, "stand-ins come from forests grown on bootstrap samples"
    weight = np.ones(len(predicted)) if rows.weight is None else rows.weight
    seen = ~(np.isnan(rows.outputs) | np.isnan(predicted))
    mass = weight @ seen
    mean = np.divide(weight @ np.where(seen, predicted, 0.0), mass, out=np.zeros_like(mass), where=mass > 0)
    away = np.where(seen, predicted - mean, 0.0)
    spread = weight @ away**2
    slope = np.divide(
        weight @ (away * np.where(seen, rows.outputs, 0.0)), spread, out=np.zeros_like(mass), where=spread > 0
    )
    return np.asarray(np.nan_to_num((predicted - mean) * np.clip(slope, 0.0, 1.0), nan=0.0))


def _fit(splits: str, options: dict[str, Any], rows: Labelled, filled: Floats) -> Any:
    wanted = filled * rows.stretch
    try:
        forest = SPLITS[splits](**options)
        return forest.fit(rows.X, wanted[:, 0] if wanted.shape[1] == 1 else wanted, sample_weight=rows.weight)
    except ValueError as error:  # inputs and targets were checked, so an option is wrong
        raise RecipeError(f"JointForest cannot be grown with these options: {error}") from error


def _bag_weights(bags: list[NDArray[np.int32]] | None, rows: Labelled, n_trees: int) -> Floats:
    """Weight of each row in each tree, [rows, trees]; zero outside the bag."""
    n_rows = len(rows.outputs)
    own = np.ones(n_rows) if rows.weight is None else rows.weight
    if bags is None:
        return np.repeat(own[:, None], n_trees, axis=1)
    counts = np.stack([np.bincount(bag, minlength=n_rows) for bag in bags], axis=1).astype(np.float64)
    return counts if _WEIGHTS_ARE_DRAWN else counts * own[:, None]


def _least_rows(min_samples_leaf: float, n_rows: int) -> int:
    """Scikit-learn's reading of ``min_samples_leaf``: a count, or a share of the rows."""
    return int(min_samples_leaf) if min_samples_leaf >= 1 else math.ceil(min_samples_leaf * n_rows)
