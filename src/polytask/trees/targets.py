"""Targets of mixed kinds as one standardised matrix, and back.

A regression target is one column; a binary target is one column (its second class); a target of K > 2 classes is K
one-hot columns. Each task's columns are centred and divided by one number so that the task has unit total variance:
a forest that reduces the summed variance then listens to every task alike.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.errors import RecipeError, TargetError
from polytask.trees.columns import Columns, by_task

__all__ = ["KINDS", "TargetCode", "explained", "learn_code", "mean_score"]

KINDS = ("regression", "binary", "multiclass")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TargetCode:
    """How labels become standardised numbers and back.

    Args:
        tasks: Names of the tasks.
        kinds: A task's kind, one of :data:`KINDS`.
        classes: A task's classes in order; empty for a regression.
        owner: For each output column the position of its task.
        center: Mean of each output column over observed labels.
        scale: What each output column was divided by.

    Shape:
        ``owner``, ``center``, ``scale``: one number for each output column.
    """

    tasks: list[Hashable]
    kinds: list[str]
    classes: list[NDArray[Any]]
    owner: NDArray[np.intp]
    center: Floats
    scale: Floats

    def encode(self, columns: Columns) -> Floats:
        """Standardised outputs, NaN where a label is missing.

        Raises:
            TargetError: If a label is none of its task's classes.
        """
        for position, (kind, classes) in enumerate(zip(self.kinds, self.classes, strict=True)):
            labels = columns.labels[position][columns.observed[:, position]]
            if kind != "regression" and not np.isin(labels, classes).all():
                raise TargetError(
                    f"Task {self.tasks[position]!r} has the label {labels[~np.isin(labels, classes)].tolist()[0]!r}, "
                    f"which is none of its classes {classes.tolist()}."
                )
        return (_raw_outputs(columns, self.kinds, self.classes) - self.center) / self.scale

    def means(self, outputs: Floats) -> Floats:
        """Standardised outputs in the units of the targets; class columns are probabilities."""
        return np.asarray(outputs * self.scale + self.center)

    def probabilities(self, means: Floats, task: int) -> Floats:
        """One column for each class of a classification task."""
        own = means[:, self.owner == task]
        if self.kinds[task] == "binary":
            second = np.clip(own[:, 0], 0.0, 1.0)
            return np.column_stack([1.0 - second, second])
        own = np.clip(own, 0.0, 1.0)
        return np.asarray(own / own.sum(axis=1, keepdims=True))

    def labels(self, means: Floats, task: int) -> NDArray[Any]:
        """Predicted labels of one task: the mean, or the most probable class; missing where the mean is NaN."""
        own = means[:, self.owner == task]
        if self.kinds[task] == "regression":
            return np.asarray(own[:, 0])
        classes, is_missing = self.classes[task], np.isnan(own[:, 0])
        found = classes[self.probabilities(means, task).argmax(axis=1)]
        if is_missing.any():
            is_number = classes.dtype.kind in "iuf"
            found = found.astype(np.float64 if is_number else object)
            found[is_missing] = np.nan if is_number else None
        return np.asarray(found)


def learn_code(columns: Columns, kinds: Any, weight: Floats) -> TargetCode:
    """Learn kinds that are not given, classes, and the standardisation over observed labels.

    Args:
        columns: The targets.
        kinds: None (infer all), a mapping from task to kind, or a sequence with one kind a task; a kind may be None.
        weight: A weight for each row.

    Raises:
        TargetError: If a task has no label, one class only, or labels that are too large.
        RecipeError: If ``kinds`` names an unknown kind or task.
    """
    asked = by_task("kinds", kinds, columns.tasks, None)
    found: list[str] = []
    classes: list[NDArray[Any]] = []
    for position, task in enumerate(columns.tasks):
        seen = columns.observed[:, position]
        if not seen.any():
            raise TargetError(f"Task {task!r} has no observed label; drop the task or add labels.")
        kind, its_classes = _kind_and_classes(task, asked[position], columns.labels[position][seen])
        found.append(kind)
        classes.append(its_classes)
    widths = [len(c) if kind == "multiclass" else 1 for kind, c in zip(found, classes, strict=True)]
    owner = np.repeat(np.arange(len(widths)), widths)
    center, scale = _moments(_raw_outputs(columns, found, classes), owner, weight, columns.tasks)
    return TargetCode(columns.tasks, found, classes, owner, center, scale)


def explained(outputs: Floats, predicted: Floats, owner: NDArray[np.intp], weight: Floats) -> Floats:
    """Share of each task's variance that predictions explain, over observed labels: R², or the Brier skill.

    Args:
        outputs: Standardised outputs, NaN where the label is missing.
        predicted: Predicted outputs; a row that has none (NaN) does not count.
        owner: The task of each output.
        weight: A weight for each row.

    Shape:
        ``outputs``, ``predicted``: [rows, outputs]; ``owner``: [outputs]; ``weight``: [rows]. Answers [tasks].

    Note:
        As in scikit-learn's ``r2_score``, a task without variance scores 1 if it is met exactly and 0 otherwise.
        A task without any label here scores NaN.
    """
    seen = ~(np.isnan(outputs) | np.isnan(predicted))
    mass = weight @ seen
    true = np.where(seen, outputs, 0.0)
    mean = np.divide(weight @ true, mass, out=np.zeros_like(mass), where=mass > 0)
    error = np.bincount(owner, weights=weight @ np.where(seen, true - predicted, 0.0) ** 2)
    spread = np.bincount(owner, weights=weight @ np.where(seen, true - mean, 0.0) ** 2)
    has_label = np.bincount(owner, weights=mass) > 0
    ratio = np.divide(error, spread, out=(error > 0).astype(np.float64), where=spread > 0)
    return np.where(has_label, 1.0 - ratio, np.nan)


def mean_score(scores: Floats, weights: Floats | None = None) -> float:
    """Mean over the tasks that have a score, NaN if none has one."""
    mass = ~np.isnan(scores) * (np.ones(len(scores)) if weights is None else weights)
    return float(mass @ np.nan_to_num(scores, nan=0.0) / mass.sum()) if mass.any() else float("nan")


def _kind_and_classes(task: Hashable, kind: str | None, labels: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """The kind of a task, inferred if None, and its classes (empty for a regression)."""
    if kind is not None and kind not in KINDS:
        raise RecipeError(f"Task {task!r} is of kind {kind!r}, which forests do not know. Known: {', '.join(KINDS)}.")
    is_numeric = labels.dtype.kind in "iuf"
    if kind == "regression":
        if not is_numeric and labels.dtype.kind != "b":
            raise TargetError(f"Task {task!r} is a regression but its labels are text.")
        return kind, np.zeros(0)
    classes = np.unique(labels)
    if kind is None and is_numeric and not np.array_equal(classes, [0, 1]):
        return "regression", np.zeros(0)
    if len(classes) < 2:
        only = classes.tolist()[0]
        raise TargetError(f"Task {task!r} has only the class {only!r}; a classification needs two or more.")
    if kind == "binary" and len(classes) > 2:
        raise TargetError(f"Task {task!r} is binary but has {len(classes)} classes; call it multiclass.")
    return ("binary" if len(classes) == 2 else "multiclass"), classes


def _raw_outputs(columns: Columns, kinds: list[str], classes: list[NDArray[Any]]) -> Floats:
    """The outputs in the targets' units, NaN where missing."""
    blocks = []
    for position, (kind, its_classes) in enumerate(zip(kinds, classes, strict=True)):
        labels, seen = columns.labels[position], columns.observed[:, position]
        if kind == "regression":
            block = labels.astype(np.float64)[:, None]
        else:
            wanted = its_classes[1:] if kind == "binary" else its_classes
            block = (labels[:, None] == wanted[None, :]).astype(np.float64)
        blocks.append(np.where(seen[:, None], block, np.nan))
    return np.hstack(blocks)


def _moments(raw: Floats, owner: NDArray[np.intp], weight: Floats, tasks: list[Hashable]) -> tuple[Floats, Floats]:
    """Weighted mean of each output, and the root of each task's total variance spread over its outputs."""
    seen = ~np.isnan(raw)
    mass = weight @ seen
    with np.errstate(over="ignore", invalid="ignore"):
        center = weight @ np.where(seen, raw, 0.0) / mass
        residual = np.where(seen, raw - center, 0.0)
        variance = weight @ residual**2 / mass
    total = np.bincount(owner, weights=variance)
    if not np.isfinite(total).all():
        worst = tasks[int(np.argmin(np.isfinite(total)))]
        raise TargetError(f"The variance of task {worst!r} is not a finite number; its labels are too large.")
    # A constant column's variance is rounding error only; dividing by it would blow that error up.
    is_constant = np.array([np.ptp(raw[seen[:, o], o]) == 0 for o in range(raw.shape[1])])
    total[np.bincount(owner, weights=~is_constant) == 0] = 1.0
    return center, np.sqrt(total)[owner]
