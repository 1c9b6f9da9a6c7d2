"""Sources from tables and arrays, with the labels of the tasks that they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polytask.data.batch import ArraySource, Batch, Source
from polytask.data.labels import encode_labels, has_labels, labels_from, labels_of, row_weights_of, tensor_of
from polytask.data.tables import TableLike, open_table
from polytask.data.transform import TableTransform
from polytask.errors import InputError
from polytask.shapes import Int, Tensor, labelled
from polytask.tasks.task import Task

__all__ = ["RowsOf", "array_source", "observed_of", "table_source"]


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
        >>> from polytask.data.labels import fit_tasks
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
    weights = None if row_weights is None else tensor_of(np.asarray(row_weights, dtype=np.float32))
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


def _input_tensor(values: Any, key: str, rows: np.ndarray | None) -> Tensor:
    who = f"Inputs {key!r}" if key else "Inputs"
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim == 0 or len(array) == 0:
        raise InputError(f"{who} need at least one row.")
    array = array if rows is None else array[rows]
    if array.dtype == np.uint8:
        return tensor_of(array)
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
    return tensor_of(array)


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
        return labelled(observed).double().mean().item()


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
