"""Data sets of a run, before anything is learned from them: tables and arrays."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.batch import ArraySource
from polytask.data.checks import check_targets
from polytask.data.sources import array_source, encode_labels, labels_of, table_source
from polytask.data.tables import Table, open_table
from polytask.data.text import TextTransform
from polytask.data.transform import TableTransform
from polytask.errors import DataError, InputError, TargetError, UnknownNameError
from polytask.models.inputs import Field, InputShape
from polytask.models.views import View
from polytask.tasks.task import Task

__all__ = ["ArrayData", "DataSet", "TableData"]

_PIECE = 1 << 16
"""Rows that are hashed at once, so that the hashes of a whole column are never held."""


class DataSet(ABC):
    """One data set of a run, before anything is learned from it."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def has(self, task: Task) -> bool:
        """Whether it holds labels of the task."""

    @property
    @abstractmethod
    def label_names(self) -> Sequence[str]:
        """What a task's target could be."""

    @abstractmethod
    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """Labels of the task, in the user's units."""

    @abstractmethod
    def column(self, name: str) -> np.ndarray:
        """Values to split by: groups or times.

        Raises:
            DataError: If there is no such column.
        """

    @abstractmethod
    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Learn from the training rows how inputs become tensors."""

    @abstractmethod
    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The inputs and weights of the given rows as tensors."""

    def check(self, tasks: Sequence[Task]) -> None:  # noqa: B027
        """Raise if the answer is among the questions; nothing to check by default.

        Raises:
            InputError: If an input gives a target away.
        """

    def source(self, tasks: Sequence[Task], rows: np.ndarray, unknown: list[str] | None = None) -> ArraySource:
        """The given rows as tensors, with their labels.

        Args:
            tasks: Fitted tasks; those without labels here are left out.
            rows: Positions of the rows.
            unknown: For rows that nothing is learned from: where to note labels of classes that training did not see.
                They count as not observed then. If ``None``, they are an error.
        """
        labels: dict[str, np.ndarray] = {}
        for task in tasks:
            if self.has(task):
                labels[task.name] = self.labels(task, rows)
                if unknown is not None:
                    labels[task.name] = _without_unknown(task, labels[task.name], unknown)
        for task in tasks:
            if task.name in labels and task.of_pixels:
                task.check_images(self._image_extents(task))
        targets, observed = encode_labels(labels, tasks)
        return replace(self.inputs_of(rows), targets=targets, observed=observed)

    def _image_extents(self, task: Task) -> tuple[int, ...]:
        """Height and width of the images.

        Raises:
            InputError: If the inputs are no images.
        """
        shapes = [field.shape for field in self.shape().fields.values()]
        if len(shapes) != 1 or len(shapes[0]) not in (2, 3):
            raise InputError(
                f"{task.who} has labels for the pixels of images, and {self.name!r} has inputs of {shapes}."
            )
        return shapes[0][-2:]

    @abstractmethod
    def shape(self) -> InputShape:
        """Shape of the inputs; known after :meth:`fit`."""

    @abstractmethod
    def view(self, task: Task) -> View | None:
        """The part of the inputs that the task reads; ``None`` for all."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Where the data came from: rows, columns, a hash."""

    transform: TableTransform | None = None
    """How its columns become tensors, if it is a table."""
    text: TextTransform | None = None
    """How its words become codes, if it is texts."""
    conditions: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """Per task that is only defined on some rows, the values that other columns have there."""

    def defined(self, task: Task, labels: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """The labels, missing where the task is not defined.

        Raises:
            TargetError: If a condition names no column, or no row fulfils it.
        """
        for name, wanted in self.conditions.get(task.name, {}).items():
            if name in task.targets:
                raise TargetError(
                    f"Task {task.name!r} cannot be its own condition: only_where names other columns, and got {name!r}."
                )
            try:
                values = self.named(name)
            except DataError:
                raise DataError(
                    str(UnknownNameError("column", name, self.label_names, f"only_where of task {task.name!r}"))
                ) from None
            where = _is_one_of(values, wanted)
            if not where.any():
                known = sorted({str(v) for v in values.tolist() if v is not None and v == v})[:10]
                raise TargetError(
                    f"Task {task.name!r} is only defined where {name} is {wanted!r}, and no row of {self.name!r} is. "
                    f"Values there are: {', '.join(known)}."
                )
            where = where if rows is None else where[rows]
            if not where.all():
                is_number = labels.dtype.kind in "iuf"
                labels = labels.astype(np.float64 if is_number else object)
                labels[~where] = np.nan if is_number else None
        return labels

    def named(self, name: str) -> np.ndarray:
        """Values of a column, or labels."""
        return self.column(name)


class TableData(DataSet):
    """A table: input columns and target columns.

    Args:
        name: The source's name.
        table: Anything that :func:`~polytask.data.tables.open_table` opens.
        inputs: Input columns; all that are neither targets nor dropped if ``None``.
        drop: Columns that no task may read.
        beside: Columns that are no inputs if they are here: weights of rows.
        group: Column of groups; an input only if ``inputs`` names it, because its values do not come again.
        targets: All target columns, none of which may be an input.
        row_weights: Column of factors on the losses of each row.
        allow: Inputs that may be copies of a target.
        options: Options of the :class:`~polytask.data.transform.TableTransform`.

    Raises:
        InputError: If an input or dropped column is not there.
        TargetError: If a target is named as an input too.
    """

    def __init__(
        self,
        name: str,
        table: Any,
        *,
        inputs: Sequence[str] | None = None,
        drop: Sequence[str] = (),
        beside: Sequence[str] = (),
        group: str | None = None,
        targets: Sequence[str] = (),
        row_weights: str | None = None,
        allow: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
    ):
        self.name = name
        self.origin = str(table) if isinstance(table, str | Path) else None
        self.table: Table = open_table(table)
        self.row_weights = row_weights
        self.allow = tuple(allow)
        for column in (*drop, *(inputs or ()), *([row_weights] if row_weights else ())):
            if column not in self.table:
                raise InputError(str(UnknownNameError(f"column of {self.table.origin}", column, self.table.names)))
        if both := sorted({*targets} & {*(inputs or ())}):
            raise TargetError(f"{', '.join(both)}: a target cannot be an input too. Take it out of the inputs.")
        hidden = {*drop, *beside, *targets, row_weights, *([group] if inputs is None else [])}
        self.inputs = [c for c in (self.table.names if inputs is None else inputs) if c not in hidden]
        if not self.inputs:
            raise InputError(f"{self.table.origin} has no input column left beside targets and dropped columns.")
        self.transform: TableTransform = TableTransform(self.inputs, **(options or {}))

    def __len__(self) -> int:
        return len(self.table)

    def has(self, task: Task) -> bool:
        """Whether all of the task's target columns are here."""
        return task.source in (None, self.name) and all(target in self.table for target in task.targets)

    @property
    def label_names(self) -> Sequence[str]:
        """All columns."""
        return self.table.names

    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """The target columns of the task."""
        return self.defined(task, labels_of(self.table, task, rows), rows)

    def column(self, name: str) -> np.ndarray:
        """A column's values."""
        if name not in self.table:
            raise DataError(str(UnknownNameError("column to split by", name, self.table.names)))
        return self.table.column(name).to_numpy()

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Fit the transform."""
        self.transform.fit(self.table, rows)
        notes.extend(note.replace("data.SOURCE.", f"data.{self.name}.") for note in self.transform.notes)

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The columns as tensors."""
        return table_source(self.name, self.table, [], self.transform, rows, row_weights=self.row_weights)

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise if an input column is a copy of a target."""
        check_targets(self.table, tasks, self.inputs, self.allow)

    def shape(self) -> InputShape:
        """Fields ``numeric``, ``molecule`` and ``categorical``, those that there are."""
        codes = {"categorical": tuple(self.transform.cardinalities.values())}
        sizes = {
            "numeric": self.transform.n_numeric,
            "molecule": self.transform.n_bits,
            "categorical": len(codes["categorical"]),
        }
        return InputShape({name: Field((n,), codes.get(name, ())) for name, n in sizes.items() if n})

    def view(self, task: Task) -> View | None:
        """The encoded columns of the task's own inputs."""
        if task.inputs is None:
            return None
        for column in task.inputs:
            if column not in self.inputs:
                raise InputError(f"Task {task.name!r} reads {column!r}, which is no input column of {self.name!r}.")
        return self.transform.positions(task.inputs)

    def describe(self) -> dict[str, Any]:
        """Path, size and hash."""
        return {
            "path": self.origin,
            "rows": len(self.table),
            "columns": list(self.table.names),
            "inputs": list(self.transform.used if self.transform.is_fitted else self.inputs),
            "sha256": _hash_of_columns(self.table.column(name) for name in self.table.names),
        }


class ArrayData(DataSet):
    """Arrays or tensors: inputs of N rows and labels by task.

    Args:
        name: The source's name.
        inputs: ``[N, ...]``, or a dict of such arrays.
        labels: Labels by task name, ``[N]`` or ``[N, K]``.
        columns: Values by name to split by: groups, times.
    """

    def __init__(
        self,
        name: str,
        inputs: Any,
        labels: Mapping[str, Any],
        columns: Mapping[str, Any] | None = None,
    ):
        self.name, self.inputs, self._labels = name, inputs, labels
        self.columns = {key: np.asarray(values) for key, values in (columns or {}).items()}
        first = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
        self._n_rows = len(first)
        for key, values in {**labels, **self.columns}.items():
            if len(values) != self._n_rows:
                raise DataError(f"{key!r} has {len(values)} values for the {self._n_rows} rows of {name!r}.")

    def __len__(self) -> int:
        return self._n_rows

    def has(self, task: Task) -> bool:
        """Whether labels of the task were given."""
        return task.source in (None, self.name) and task.name in self._labels

    @property
    def label_names(self) -> Sequence[str]:
        """Names of the tasks whose labels were given."""
        return tuple(self._labels)

    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """The given labels."""
        labels = _as_labels(task, self._labels[task.name])
        return self.defined(task, labels if rows is None else labels[rows], rows)

    def named(self, name: str) -> np.ndarray:
        """Labels of a task, or a column."""
        return np.asarray(self._labels[name]) if name in self._labels else self.column(name)

    def column(self, name: str) -> np.ndarray:
        """Values to split by."""
        if name not in self.columns:
            raise DataError(str(UnknownNameError("column to split by", name, self.columns)))
        return self.columns[name]

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Arrays are used as they are."""

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The arrays as tensors."""
        return array_source(self.name, self.inputs, {}, [], rows)

    def shape(self) -> InputShape:
        """Shape of one row."""
        return InputShape.of(self.inputs_of(np.arange(1)).inputs)

    def view(self, task: Task) -> View | None:
        """The fields that the task reads."""
        if task.inputs is None:
            return None
        fields = self.shape().fields
        unknown = [name for name in task.inputs if name not in fields]
        if unknown:
            raise InputError(
                f"Task {task.name!r} reads {unknown}, which {self.name!r} does not have; it has {sorted(fields)}."
            )
        return {name: tuple(range(fields[name].shape[0])) for name in task.inputs}

    def describe(self) -> dict[str, Any]:
        """Size."""
        return {"path": None, "rows": len(self), "columns": sorted(self.shape().fields), "inputs": None, "sha256": None}


def _as_labels(task: Task, given: Any) -> np.ndarray:
    """The given labels as an array; those in a list as one object a row, where a row's label is itself a sequence."""
    if isinstance(given, np.ndarray) or not task.of_elements:
        return np.asarray(given)
    array = np.empty(len(given), dtype=object)
    for row, value in enumerate(given):
        array[row] = value
    return array


_WORDS = {True: {"yes", "true", "on", "y"}, False: {"no", "false", "off", "n"}}


def _is_one_of(values: np.ndarray, wanted: Any) -> np.ndarray:
    """Which values are the wanted one, or among several.

    YAML reads ``yes`` as true, so that a truth value also stands for the words for it.
    """
    options = wanted if isinstance(wanted, list | tuple) else [wanted]
    listed = values.tolist()
    words = {word for option in options if isinstance(option, bool) for word in _WORDS[option]}
    return np.array([v in options or (isinstance(v, str) and v.strip().lower() in words) for v in listed], dtype=bool)


def _without_unknown(task: Task, labels: np.ndarray, notes: list[str]) -> np.ndarray:
    """The labels with ``None`` for classes that training did not see."""
    unknown = ~task.is_known(labels)
    if not unknown.any():
        return labels
    if task.of_pixels:
        listed, more = f"those of rows {', '.join(map(str, np.flatnonzero(unknown)[:5]))}", unknown.sum() > 5
    else:
        values, counts = np.unique(labels[unknown].astype(str), return_counts=True)
        named = list(zip(values, counts, strict=True))
        listed, more = ", ".join(f"{value} ({count})" for value, count in named[:5]), len(values) > 5
    notes.append(
        f"{unknown.sum()} labels of task {task.name!r} are of classes that no training row has, and count as "
        f"missing: {listed}{', ...' if more else ''}. A stratified split keeps rare classes in training."
    )
    kept = labels.astype(object)
    kept[unknown] = None
    return kept


def _hash_of_columns(columns: Any) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(str(column.name).encode())
        for start in range(0, len(column), _PIECE):
            piece = column.iloc[start : start + _PIECE]
            digest.update(pd.util.hash_pandas_object(piece, index=False).to_numpy().tobytes())
    return digest.hexdigest()
