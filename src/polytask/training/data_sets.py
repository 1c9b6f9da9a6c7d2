"""Data sets of a run: tables and arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.batch import ArraySource
from polytask.data.checks import check_targets
from polytask.data.digests import digest_of
from polytask.data.sources import array_source, table_source
from polytask.data.tables import open_table
from polytask.data.transform import TableTransform
from polytask.errors import DataError, InputError, TargetError, UnknownNameError
from polytask.models.inputs import Field, InputShape
from polytask.models.views import View
from polytask.shapes import object_array
from polytask.tasks.task import Task
from polytask.training.data_set import DataSet
from polytask.training.table_rows import TableRows

__all__ = ["ArrayData", "DataSet", "TableData"]

_PIECE = 1 << 16
"""Rows that are hashed at once, so that the hashes of a whole column are never held."""


class TableData(TableRows):
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
        super().__init__(name, open_table(table), row_weights, (*drop, *(inputs or ())))
        self.origin = str(table) if isinstance(table, str | Path) else None
        self.allow = tuple(allow)
        if both := sorted({*targets} & {*(inputs or ())}):
            raise TargetError(f"{', '.join(both)}: a target cannot be an input too. Take it out of the inputs.")
        hidden = {*drop, *beside, *targets, row_weights, *([group] if inputs is None else [])}
        self.inputs = [c for c in (self.table.names if inputs is None else inputs) if c not in hidden]
        if not self.inputs:
            raise InputError(f"{self.table.origin} has no input column left beside targets and dropped columns.")
        self.transform: TableTransform = TableTransform(self.inputs, **(options or {}))
        self._checked: set[frozenset[str]] = set()
        self._sha256 = ""

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Fit the transform."""
        self.transform.fit(self.table, rows)
        notes.extend(self.transform.notes)

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The columns as tensors."""
        return table_source(self.name, self.table, [], self.transform, rows, row_weights=self.row_weights)

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise if an input column is a copy of a target; looked for once, as folds are of the same table."""
        targets = frozenset(target for task in tasks for target in task.targets)
        if targets not in self._checked:
            check_targets(self.table, tasks, self.inputs, self.allow)
            self._checked.add(targets)

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
                where = f"the inputs of task {task.name!r}"
                raise InputError(str(UnknownNameError(f"input column of {self.name!r}", column, self.inputs, where)))
        return self.transform.positions(task.inputs)

    def describe(self) -> dict[str, Any]:
        """Path, size and hash, which is computed once."""
        if not self._sha256:
            self._sha256 = _hash_of_columns(self.table.column(name) for name in self.table.names)
        return {
            "path": self.origin,
            "rows": len(self.table),
            "columns": list(self.table.names),
            "inputs": list(self.transform.used if self.transform.is_fitted else self.inputs),
            "sha256": self._sha256,
        }


class ArrayData(DataSet):
    """Arrays or tensors: inputs of N rows and labels by task.

    Args:
        name: The source's name.
        inputs: ``[N, ...]``, or a dict of such arrays.
        labels: Labels by task name, ``[N]`` or ``[N, K]``.
        columns: Values by name to split by: groups, times.

    Raises:
        InputError: If the inputs have no rows to count.
        DataError: If labels or columns have another number of rows than the inputs.
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
        fields = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
        if not fields or not all(hasattr(field, "__len__") for field in fields):
            raise InputError(
                f"Source {name!r} needs inputs of N rows: an array [N, ...], or a dict of such arrays by name; got "
                f"{inputs!r:.60}."
            )
        self._n_rows = len(fields[0])
        for key, values in {**labels, **self.columns}.items():
            if len(values) != self._n_rows:
                raise DataError(
                    f"{key!r} has {len(values)} values for the {self._n_rows} rows of source {name!r}: give one a row."
                )

    def __len__(self) -> int:
        return self._n_rows

    def has(self, task: Task) -> bool:
        """Whether labels of the task were given."""
        return task.source in (None, self.name) and task.name in self._labels

    @property
    def label_names(self) -> Sequence[str]:
        """Names of the tasks whose labels were given."""
        return tuple(self._labels)

    @property
    def column_names(self) -> Sequence[str]:
        """Names of the columns that were given beside the labels."""
        return tuple(self.columns)

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
        if unknown := [name for name in task.inputs if name not in fields]:
            where = f"the inputs of task {task.name!r}"
            raise InputError(str(UnknownNameError(f"input of {self.name!r}", unknown[0], fields, where)))
        return {name: tuple(range(fields[name].shape[0])) for name in task.inputs}

    def describe(self) -> dict[str, Any]:
        """Size, and a hash of inputs, labels and columns."""
        digest = digest_of(self.inputs, self._labels, self.columns)
        fields = sorted(self.shape().fields)
        return {"path": None, "rows": len(self), "columns": fields, "inputs": None, "sha256": digest}


def _as_labels(task: Task, given: Any) -> np.ndarray:
    """The given labels as an array; those in a list as one object a row, where a row's label is itself a sequence."""
    return np.asarray(given) if isinstance(given, np.ndarray) or not task.of_elements else object_array(given)


def _hash_of_columns(columns: Any) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(str(column.name).encode())
        for start in range(0, len(column), _PIECE):
            digest.update(_hashes_of(column.iloc[start : start + _PIECE]))
    return digest.hexdigest()


def _hashes_of(piece: pd.Series[Any]) -> bytes:
    """A few bytes that stand for some cells of a column."""
    try:
        return pd.util.hash_pandas_object(piece, index=False).to_numpy().tobytes()
    except TypeError:  # lists and mappings, which cells of JSON lines and Parquet may be, cannot be hashed one by one
        return digest_of(piece.to_numpy()).encode()
