"""The rows of every task, read from either form: one matrix of targets, or one table per task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from polytask.errors import InputError, TargetError

__all__ = ["Array", "Form", "TaskRows", "is_per_task", "read_inputs", "read_rows"]

Array = NDArray[np.float64]
Form = Literal["vector", "matrix", "tables"]


@dataclass(frozen=True)
class TaskRows:
    """Inputs, labels and weights of all tasks.

    Args:
        inputs: One matrix that all tasks read, or one per task.
        targets: One vector per task; the value where the weight is zero means nothing.
        weights: One vector per task, zero where the label is missing.
        form: How the data were given: ``vector`` (one task), ``matrix`` or ``tables``.

    Shape:
        inputs [N_t, D]; targets and weights [N_t].
    """

    inputs: tuple[Array, ...]
    targets: tuple[Array, ...]
    weights: tuple[Array, ...]
    form: Form

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.targets)

    @property
    def is_shared(self) -> bool:
        """Whether every task has the same rows with the same weights, so that they share one Gram matrix."""
        first = self.weights[0]
        return len(self.inputs) == 1 and all(np.array_equal(first, other) for other in self.weights[1:])

    def observed(self) -> Iterator[tuple[Array, Array, Array]]:
        """Inputs, labels and weights of each task, without the rows in which its label is missing."""
        for task, (target, weight) in enumerate(zip(self.targets, self.weights, strict=True)):
            inputs = self.inputs[task % len(self.inputs)]
            keep = weight > 0
            yield (inputs, target, weight) if keep.all() else (inputs[keep], target[keep], weight[keep])

    def take(self, chosen: Sequence[NDArray[np.intp]]) -> TaskRows:
        """Only some rows: one array of row numbers for each of ``inputs``."""
        per_task = [chosen[task % len(chosen)] for task in range(self.n_tasks)]
        return TaskRows(
            inputs=tuple(x[rows] for x, rows in zip(self.inputs, chosen, strict=True)),
            targets=tuple(y[rows] for y, rows in zip(self.targets, per_task, strict=True)),
            weights=tuple(w[rows] for w, rows in zip(self.weights, per_task, strict=True)),
            form=self.form,
        )


def is_per_task(X: Any) -> bool:
    """Whether ``X`` is a list of tables, one per task, rather than one table."""
    return isinstance(X, list | tuple) and len(X) > 0 and all(np.ndim(x) == 2 for x in X)


def read_inputs(estimator: BaseEstimator, X: Any, *, fitting: bool) -> tuple[Array, ...]:
    """Checked input matrices: one, or one per task. After fitting, a task's table may have no rows.

    Raises:
        InputError: If a table is not two-dimensional, not finite, or its features differ from the other tables'.
    """
    if isinstance(X, Mapping) and not issparse(X):  # a sparse matrix may be one, and is explained below
        raise InputError(f"{type(estimator).__name__} needs X as one table, or as a list of one table per task.")
    tables = X if is_per_task(X) else [X]
    least_rows = 0 if is_per_task(X) and not fitting else 1
    read = []
    for number, table in enumerate(tables):
        try:
            checked = validate_data(
                estimator, table, reset=fitting and number == 0, dtype=np.float64, ensure_min_samples=least_rows
            )
        except ValueError as error:
            where = f"the inputs of task {number}" if is_per_task(X) else "the inputs"
            raise InputError(f"{type(estimator).__name__} cannot use {where}: {error}") from error
        read.append(checked)
    return tuple(read)


def read_rows(estimator: BaseEstimator, X: Any, Y: Any, sample_weight: Any = None, *, fitting: bool = True) -> TaskRows:
    """All tasks' rows from what ``fit`` was given, or ``score``, checked.

    Raises:
        InputError: If the inputs cannot be used.
        TargetError: If the labels are infinite, have another shape than the inputs ask for, or (when fitting) a task
            has none.
    """
    who = type(estimator).__name__
    if Y is None:
        raise TargetError(f"{who} requires y to be passed, but the target y is None.")
    inputs = read_inputs(estimator, X, fitting=fitting)
    form: Form
    if is_per_task(X):
        form, targets = "tables", _targets_per_task(who, inputs, Y)
    else:
        values = _finite_or_nan(who, Y, "y")
        if values.ndim > 2 or len(values) != len(inputs[0]):
            raise TargetError(
                f"{who} needs one row of targets for each of the {len(inputs[0])} rows of X, got y of shape "
                f"{values.shape}. Give y of shape [N] or [N, T], or one X and one y per task as lists."
            )
        form = "vector" if values.ndim == 1 else "matrix"
        targets = tuple(np.ascontiguousarray(column) for column in np.atleast_2d(values.T))
    weights = _weights(who, targets, sample_weight, form)
    empty = [task for task, weight in enumerate(weights) if not weight.any()]
    if empty and fitting:
        counted = "label" if sample_weight is None else "label whose weight is not zero"
        raise TargetError(
            f"{who} needs a {counted} for every task, got none for {_listing(empty)}. Leave them out of y."
        )
    targets = tuple(np.where(weight > 0, target, 0.0) for target, weight in zip(targets, weights, strict=True))
    return TaskRows(inputs, targets, weights, form)


def _targets_per_task(who: str, inputs: tuple[Array, ...], Y: Any) -> tuple[Array, ...]:
    if not isinstance(Y, list | tuple) or len(Y) != len(inputs):
        got = f"{len(Y)}" if isinstance(Y, list | tuple) else f"a {type(Y).__name__}"
        raise TargetError(f"{who} got a list of {len(inputs)} tables, so it needs a list of as many y, got {got}.")
    targets = []
    for task, (table, labels) in enumerate(zip(inputs, Y, strict=True)):
        values = _finite_or_nan(who, labels, f"y of task {task}")
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.shape != (len(table),):
            raise TargetError(
                f"{who} needs one label for each of the {len(table)} rows of task {task}, "
                f"got y of shape {values.shape}. Give a vector; NaN where a label is missing."
            )
        targets.append(values)
    return tuple(targets)


def _weights(who: str, targets: tuple[Array, ...], sample_weight: Any, form: Form) -> tuple[Array, ...]:
    """Non-negative weights, zero where the label is missing."""
    try:
        if sample_weight is None:
            given = [np.ones_like(target) for target in targets]
        elif form == "tables":
            given = [np.asarray(weight, dtype=np.float64) for weight in sample_weight]
        else:
            table = np.asarray(sample_weight, dtype=np.float64)
            given = list(table.T) if table.ndim == 2 else [table] * len(targets)
    except (TypeError, ValueError) as error:
        raise TargetError(f"{who} cannot use sample_weight: {error}") from error
    if [weight.shape for weight in given] != [target.shape for target in targets]:
        raise TargetError(
            f"{who} needs sample_weight of the shape of the labels (or one weight per row of X), "
            f"got {[weight.shape for weight in given][:3]} for {[target.shape for target in targets][:3]}."
        )
    if not all(np.isfinite(weight).all() and (weight >= 0).all() for weight in given):
        raise TargetError(f"{who} needs finite sample_weight, none below zero.")
    return tuple(np.where(np.isnan(target), 0.0, weight) for target, weight in zip(targets, given, strict=True))


def _finite_or_nan(who: str, values: Any, name: str) -> Array:
    if isinstance(values, Mapping):
        raise TargetError(f"{who} needs {name} as an array, a list or a data frame, no mapping.")
    try:
        checked: Array = check_array(
            values,
            ensure_2d=False,
            allow_nd=True,
            dtype=np.float64,
            ensure_all_finite="allow-nan",
            ensure_min_samples=0,
            input_name=name,
        )
    except ValueError as error:
        raise TargetError(f"{who} cannot use the labels: {error}") from error
    return checked


def _listing(tasks: list[int]) -> str:
    names = ", ".join(str(task) for task in tasks[:5])
    return f"task{'s' if len(tasks) > 1 else ''} {names}{' and more' if len(tasks) > 5 else ''}"
