"""Sources from tables, arrays and torch data sets, with the labels of the tasks that they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from polytask.data.batch import ArraySource, Batch, Source
from polytask.data.tables import Table, TableLike, open_table
from polytask.data.transform import TableTransform
from polytask.errors import InputError, TargetError, UnknownNameError
from polytask.shapes import Int, Tensor
from polytask.tasks.task import Task

__all__ = [
    "RowsOf",
    "array_source",
    "fit_tasks",
    "labels_of",
    "observed_of",
    "row_weights_of",
    "table_source",
]


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


def table_source(
    name: str,
    data: TableLike,
    tasks: Sequence[Task],
    transform: TableTransform | Mapping[str, TableTransform],
    rows: np.ndarray | None = None,
    *,
    row_weights: str | None = None,
    notes: list[str] | None = None,
) -> ArraySource:
    """A table in memory as tensors, column by column.

    Args:
        name: The source's name.
        data: Anything that :func:`~polytask.data.tables.open_table` opens.
        tasks: Fitted tasks; those that name another source, or of whose targets the table has none, are left out.
        transform: The fitted transform of the inputs; or one for each group of inputs, whose tensors are then called
            ``group.numeric`` and ``group.categorical``.
        rows: Positions of the rows; all if ``None``.
        row_weights: Column of factors on the losses of each row.
        notes: A list to which notes on imputed values are added.

    Raises:
        DataError: If the table, an input, a label or a row weight cannot be used.

    Example:
        >>> from polytask.tasks import Regression
        >>> table = {"x": [1.0, 2.0, 4.0], "y": [1.0, None, 3.0]}
        >>> tasks = [Regression(name="y")]
        >>> fit_tasks(tasks, table)
        >>> source = table_source("table", table, tasks, TableTransform(["x"]).fit(table))
        >>> source.inputs["numeric"].shape, source.observed["y"].tolist()
        (torch.Size([3, 1]), [True, False, True])
    """
    table = open_table(data)
    if isinstance(transform, TableTransform):
        inputs = transform.transform(table, rows, notes)
    else:
        inputs = {
            f"{group}.{key}": tensor
            for group, part in transform.items()
            for key, tensor in part.transform(table, rows, notes).items()
        }
    labels = {task.name: labels_of(table, task, rows) for task in tasks if has_labels(task, name, table.names)}
    weights = None if row_weights is None else row_weights_of(table, row_weights, rows)
    targets, observed = encode_labels(labels, tasks)
    return ArraySource(name, inputs, targets, observed, weights)


def array_source(
    name: str,
    inputs: Any,
    labels: Mapping[str, Any],
    tasks: Sequence[Task],
    rows: np.ndarray | None = None,
    row_weights: Any = None,
) -> ArraySource:
    """Arrays or tensors in memory as a source.

    Args:
        name: The source's name.
        inputs: ``[N, ...]``, or a dict of such arrays. 8-bit images stay as they are and become float32 in 0 to 1 in
            the batch; other integers become int64 (codes), and the rest float32.
        labels: Arrays ``[N]`` by target column, NaN or ``None`` where missing; a task with several target columns
            may also find an array ``[N, K]`` under its name.
        tasks: Fitted tasks; those that name another source, or have no labels here, are left out.
        rows: Positions of the rows; all if ``None``.
        row_weights: ``[N]`` factors on the losses of each row.

    Raises:
        InputError: If the arrays differ in their number of rows, or hold NaN, infinity or texts.
        TargetError: If the labels cannot be encoded.
    """
    arrays = dict(inputs) if isinstance(inputs, Mapping) else {"": inputs}
    tensors = {key: _input_tensor(value, key, rows) for key, value in arrays.items()}
    found = {task.name: labels_from(labels, task) for task in tasks if has_labels(task, name, tuple(labels))}
    weights = None if row_weights is None else _tensor(np.asarray(row_weights, dtype=np.float32))
    sizes = {f"inputs {key}".strip(): len(np.asarray(value)) for key, value in arrays.items()}
    sizes.update({f"labels of {task}": len(value) for task, value in found.items()})
    if weights is not None:
        sizes["row weights"] = len(weights)
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"Source {name!r} needs as many rows everywhere, got "
            + ", ".join(f"{what}: {size}" for what, size in sizes.items())
            + "."
        )
    if rows is not None:
        found = {task: value[rows] for task, value in found.items()}
        weights = None if weights is None else weights[torch.as_tensor(np.array(rows))]
    targets, observed = encode_labels(found, tasks)
    return ArraySource(name, tensors if isinstance(inputs, Mapping) else tensors[""], targets, observed, weights)


def encode_labels(
    labels: Mapping[str, np.ndarray], tasks: Sequence[Task]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Targets and masks of the tasks that have labels here, as tensors."""
    targets, observed = {}, {}
    for task in tasks:
        if task.name in labels:
            encoded, mask = task.encode(labels[task.name])
            targets[task.name], observed[task.name] = _tensor(encoded), _tensor(mask)
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
    return _tensor(weights if rows is None else weights[rows])


def _input_tensor(values: Any, key: str, rows: np.ndarray | None) -> Tensor:
    who = f"Inputs {key!r}" if key else "Inputs"
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim == 0 or len(array) == 0:
        raise InputError(f"{who} need at least one row.")
    array = array if rows is None else array[rows]
    if array.dtype == np.uint8:
        return _tensor(array)
    if array.dtype == object or array.dtype.kind in "USMmc":
        raise InputError(f"{who} need numbers, got {array.dtype}. Use table_source for columns of texts or dates.")
    if array.dtype.kind in "iub":
        return torch.from_numpy(
            np.ascontiguousarray(array.astype(np.int64 if array.dtype.kind in "iu" else np.float32))
        )
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise InputError(f"{who}, row {row}: NaN or infinity. Use table_source for tables with missing inputs.")
    return _tensor(array)


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory where torch can: not with an array that must not be written."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@dataclass(frozen=True)
class RowsOf:
    """Some rows of a source, without a copy: a split of a large source costs no more than its row numbers.

    Args:
        source: The source.
        rows: Positions in it, ``[M]``.

    Example:
        >>> whole = ArraySource("table", torch.arange(6.0)[:, None])
        >>> part = RowsOf(whole, torch.tensor([1, 3, 5]))
        >>> len(part), part.batch(torch.tensor([2, 0])).inputs.flatten().tolist()
        (3, [5.0, 1.0])
    """

    source: Source
    rows: Int[Tensor, " M"]

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose labels this source can have."""
        return self.source.tasks

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Int[Tensor, " B"]) -> Batch:
        """The given rows, counted among the rows of this part."""
        return self.source.batch(self.rows[rows])

    def coverage(self, task: str) -> float:
        """Share of the rows with at least one observed label of the task."""
        observed = observed_of(self, task)
        if observed is None:
            observed = self.source.batch(self.rows).observed[task]
        return (observed.flatten(1).any(1) if observed.ndim > 1 else observed).double().mean().item()


def observed_of(source: Source, task: str) -> Tensor | None:
    """Which of the task's labels are observed in all rows of a source; ``None`` if only its batches can tell.

    Example:
        >>> observed = {"a": torch.tensor([True, False, True])}
        >>> whole = ArraySource("table", torch.zeros(3, 1), {"a": torch.ones(3)}, observed)
        >>> observed_of(RowsOf(whole, torch.tensor([2, 1])), "a").tolist()
        [True, False]
    """
    if isinstance(source, RowsOf):
        inner = observed_of(source.source, task)
        return None if inner is None else inner[source.rows]
    held: Mapping[str, Tensor] | None = getattr(source, "observed", None)
    return None if held is None else held[task]
