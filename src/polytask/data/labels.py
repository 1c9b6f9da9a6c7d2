"""Labels of tasks, and weights of rows, from tables and arrays to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from polytask.data.tables import Table, TableLike, open_table
from polytask.errors import InputError, TargetError, UnknownNameError
from polytask.shapes import Tensor
from polytask.tasks.task import Task

__all__ = ["encode_labels", "fit_tasks", "has_labels", "labels_from", "labels_of", "row_weights_of", "tensor_of"]


def labels_of(data: TableLike, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
    """A task's labels as its codec reads them: ``[N]``, or ``[N, K]`` for a task with several target columns.

    Whole numbers without a missing one stay whole, other numbers are float64 with NaN where missing; anything else is
    an object array with ``None`` where missing.

    Raises:
        TargetError: If a target is not a column.

    Example:
        >>> from polytask.tasks import Regression
        >>> labels_of({"x": [1, 2, 3], "y": [1, None, 3]}, Regression(name="y")).tolist()
        [1.0, nan, 3.0]
    """
    table = open_table(data)
    for target in task.targets:
        if target not in table:
            raise TargetError(f"Task {task.name!r}: " + str(UnknownNameError("target column", target, table.names)))
    columns = [_label_array(table.column(target)) for target in task.targets]
    if rows is not None:
        columns = [column[rows] for column in columns]
    if isinstance(task.target, str):
        return columns[0]
    is_numeric = all(column.dtype.kind in "if" for column in columns)
    return np.stack([column if is_numeric else column.astype(object) for column in columns], axis=1)


def _label_array(values: pd.Series[Any]) -> np.ndarray:
    types = pd.api.types
    if types.is_numeric_dtype(values) and not types.is_bool_dtype(values) and not types.is_complex_dtype(values):
        if types.is_integer_dtype(values) and not values.isna().any():
            return values.to_numpy(dtype=np.int64)
        if not types.is_integer_dtype(values):
            return values.to_numpy(dtype=np.float64, na_value=np.nan)
    if isinstance(values.dtype, pd.StringDtype):
        # One object for each different text, not one a row: a tenth of the memory of the general way below.
        codes, texts = pd.factorize(values)
        table = [text if text.strip() else None for text in texts.astype(object)]
        return np.array([*table, None], dtype=object)[codes]
    # "empty means not observed" holds for frames in memory too, where no reader turned "" into missing.
    objects = values.astype(object)
    blank = objects.map(lambda value: isinstance(value, str) and not value.strip()).to_numpy(dtype=bool)
    return objects.where(objects.notna() & ~blank, None).to_numpy(dtype=object)


def fit_tasks(tasks: Sequence[Task], data: TableLike, rows: np.ndarray | None = None) -> None:
    """Fit the codec of each task on the training rows of the table.

    Raises:
        TargetError: If a target is not a column, has no label, or only one class.
    """
    table = open_table(data)
    for task in tasks:
        task.fit(labels_of(table, task, rows))


def encode_labels(
    labels: Mapping[str, np.ndarray], tasks: Sequence[Task]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Targets and masks of the tasks that have labels here, as tensors."""
    targets, observed = {}, {}
    for task in tasks:
        if task.name in labels:
            encoded, mask = task.encode(labels[task.name])
            targets[task.name], observed[task.name] = tensor_of(encoded), tensor_of(mask)
    return targets, observed


def has_labels(task: Task, source: str, names: Sequence[str]) -> bool:
    """Whether a source with columns or labels of these names has the task's labels."""
    if task.source is not None:
        return task.source == source
    return task.name in names or all(target in names for target in task.targets)


def labels_from(labels: Mapping[str, Any], task: Task) -> np.ndarray:
    """A task's labels among arrays by target."""
    if all(target in labels for target in task.targets):
        return labels_of({target: labels[target] for target in task.targets}, task)
    if task.name in labels:
        return np.asarray(labels[task.name])
    missing = next(target for target in task.targets if target not in labels)
    raise TargetError(f"Task {task.name!r}: " + str(UnknownNameError("target", missing, list(labels))))


def row_weights_of(table: Table, name: str, rows: np.ndarray | None) -> Tensor:
    """A column of factors on the losses of each row.

    Raises:
        InputError: If there is no such column, or one is negative or no number.
    """
    if name not in table:
        raise InputError(str(UnknownNameError("column of row weights", name, table.names)))
    weights = pd.to_numeric(table.column(name), errors="coerce").to_numpy(dtype=np.float32, na_value=np.nan)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        row = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise InputError(f"Row weights in {name!r} need finite numbers of at least 0; row {row} has none.")
    return tensor_of(weights if rows is None else weights[rows])


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory where torch can: not with an array that must not be written."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
