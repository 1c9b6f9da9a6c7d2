"""Targets of mixed kinds as one standardised matrix, and back.

A regression target is one column; a binary target is one column (its second class); a target of K > 2 classes is K
one-hot columns. Each task's columns are centred and divided by one number so that the task has unit total variance:
a forest that reduces the summed variance then listens to every task alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.errors import RecipeError, TargetError

__all__ = ["KINDS", "Columns", "TargetCode", "answer", "by_task", "explained", "learn_code", "read_columns"]

KINDS = ("regression", "binary", "multiclass")

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """Target columns as they were given.

    Args:
        form: ``vector``, ``matrix``, ``mapping`` or ``frame``: the form in which predictions are answered.
        tasks: The columns' names; their positions if they have none.
        labels: A task's labels; what stands where a label is missing has no meaning.
        observed: Which labels are there.
    """

    form: str
    tasks: list[Hashable]
    labels: list[NDArray[Any]]
    observed: Bools

    def take(self, rows: Bools) -> Columns:
        """Only some rows."""
        return Columns(self.form, self.tasks, [labels[rows] for labels in self.labels], self.observed[rows])

    def pick(self, tasks: Sequence[Hashable]) -> Columns:
        """The columns of ``tasks``, in that order.

        Raises:
            TargetError: If the columns are not those tasks.
        """
        if set(tasks) != set(self.tasks):
            raise TargetError(f"The targets must be {list(tasks)}, as in training; got {self.tasks}.")
        order = [self.tasks.index(task) for task in tasks]
        return Columns(self.form, list(tasks), [self.labels[place] for place in order], self.observed[:, order])


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
                    f"Task {self.tasks[position]!r} has the label {labels[~np.isin(labels, classes)][0]!r}, "
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


def read_columns(Y: Any) -> Columns:
    """Read targets given as a vector, a matrix, a mapping of columns or a data frame.

    Raises:
        TargetError: If the columns have different lengths, mix numbers and text, or hold an infinity.
    """
    if isinstance(Y, Mapping) or (hasattr(Y, "columns") and hasattr(Y, "__getitem__")):
        form = "mapping" if isinstance(Y, Mapping) else "frame"
        names = list(Y) if form == "mapping" else list(Y.columns)
        raw = [Y[name] for name in names]
    else:
        array = np.asarray(Y, dtype=object) if _has_none(Y) else np.asarray(Y)
        if array.ndim not in (1, 2):
            raise TargetError(f"Targets must be one column or a table [rows, tasks], got {array.ndim} dimensions.")
        form = "vector" if array.ndim == 1 else "matrix"
        raw = [array] if array.ndim == 1 else list(array.T)
        names = list(range(len(raw)))
    if not raw:
        raise TargetError("There is no target column; give at least one.")
    pairs = [_read_column(name, column) for name, column in zip(names, raw, strict=True)]
    lengths = {len(labels) for labels, _ in pairs}
    if len(lengths) > 1:
        raise TargetError(f"The target columns have different lengths: {sorted(lengths)}.")
    return Columns(form, names, [labels for labels, _ in pairs], np.column_stack([seen for _, seen in pairs]))


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


def by_task(option: str, given: Any, tasks: Sequence[Hashable], default: Any) -> list[Any]:
    """Read an option given as None, as a mapping from task to value, or as a sequence with one value a task.

    Raises:
        RecipeError: If it names a task that is not there, or has the wrong length.
    """
    if given is None:
        return [default] * len(tasks)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in tasks]
        if unknown:
            raise RecipeError(f"{option} names {unknown[0]!r}, which is no target. Targets: {list(tasks)}.")
        return [given.get(task, default) for task in tasks]
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != len(tasks):
        raise RecipeError(
            f"{option} must be a mapping from task to value, or one value for each of the {len(tasks)} "
            f"targets in order; got {given!r}."
        )
    return list(given)


def answer(form: str, tasks: list[Hashable], labels: list[NDArray[Any]]) -> Any:
    """Labels of all tasks in the form in which targets were given: see :class:`Columns`."""
    if form == "vector":
        return labels[0]
    if form == "matrix":
        is_text = any(label.dtype.kind not in "biuf" for label in labels)
        return np.column_stack([label.astype(object) for label in labels] if is_text else labels)
    by_name = dict(zip(tasks, labels, strict=True))
    if form == "mapping":
        return by_name
    import pandas as pd  # only those who gave a data frame need it

    return pd.DataFrame(by_name)


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


def _has_none(Y: Any) -> bool:
    # A list with None in it becomes an object array by itself; one that also holds text must not become text.
    if hasattr(Y, "dtype"):
        return False
    return isinstance(Y, Sequence) and any(
        value is None for row in Y for value in (row if isinstance(row, list | tuple) else [row])
    )


def _read_column(task: Hashable, column: Any) -> tuple[NDArray[Any], Bools]:
    array = np.asarray(column)
    if array.ndim != 1:
        raise TargetError(f"The column of task {task!r} must have one dimension, got {array.ndim}.")
    if array.dtype.kind in "biuUS":
        return array, np.ones(len(array), dtype=bool)
    if array.dtype.kind == "f":
        numbers = array.astype(np.float64)
        if np.isinf(numbers).any():
            raise TargetError(f"Task {task!r} has an infinite label; remove it or mark it missing with NaN.")
        return numbers, ~np.isnan(numbers)
    if array.dtype.kind != "O" and not hasattr(column, "dtype"):
        raise TargetError(f"Task {task!r} has labels of type {array.dtype}; numbers, text or booleans are needed.")
    return _read_objects(task, column, np.asarray(column, dtype=object))


def _read_objects(task: Hashable, column: Any, array: NDArray[Any]) -> tuple[NDArray[Any], Bools]:
    if hasattr(column, "isna"):  # pandas, whose NA has no truth value
        seen = ~np.asarray(column.isna(), dtype=bool)
    else:
        seen = np.array([value is not None and value == value for value in array], dtype=bool)
    values = array[seen].tolist()
    natural = np.array(values) if values else np.zeros(0)
    is_mixed = natural.dtype.kind in "US" and not all(isinstance(value, str | bytes) for value in values)
    if natural.ndim != 1 or natural.dtype.kind not in "biufUS" or is_mixed:
        raise TargetError(f"Task {task!r} mixes types in its labels; numbers, text or booleans are needed.")
    if natural.dtype.kind == "f" and np.isinf(natural).any():
        raise TargetError(f"Task {task!r} has an infinite label; remove it or mark it missing with NaN.")
    labels = np.zeros(len(array), dtype=natural.dtype)
    labels[seen] = natural
    return labels, seen


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
        raise TargetError(f"Task {task!r} has only the class {classes[0]!r}; a classification needs two or more.")
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
