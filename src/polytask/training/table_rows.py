"""A table as a data set of a run, whatever of it is read."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

import numpy as np

from polytask.data.labels import labels_of
from polytask.data.table import Table
from polytask.errors import DataError, InputError, UnknownNameError
from polytask.tasks.task import Task
from polytask.training.data_set import DataSet, one_value_a_row

__all__ = ["TableRows"]


class TableRows(DataSet, ABC):
    """What all data sets of a table have: its labels, groups, times and weights of rows are columns.

    Args:
        name: The source's name.
        table: The table.
        row_weights: Column of factors on the losses of each row.
        columns: Further columns that need to be there.

    Raises:
        InputError: If a column is not there.
    """

    def __init__(self, name: str, table: Table, row_weights: str | None = None, columns: Sequence[str] = ()):
        self.name, self.table, self.row_weights = name, table, row_weights
        for column in (*columns, *([row_weights] if row_weights else ())):
            if column not in table:
                raise InputError(str(UnknownNameError(f"column of {table.origin}", column, table.names)))

    def __len__(self) -> int:
        return len(self.table)

    def has(self, task: Task) -> bool:
        """Whether all of the task's target columns are here."""
        return task.source in (None, self.name) and all(target in self.table for target in task.targets)

    @property
    def label_names(self) -> Sequence[str]:
        """All columns."""
        return self.table.names

    @property
    def column_names(self) -> Sequence[str]:
        """All columns, also one that an encoder reads whole."""
        return self.table.names

    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """The target columns of the task."""
        return self.defined(task, labels_of(self.table, task, rows), rows)

    def column(self, name: str) -> np.ndarray:
        """A column's values."""
        if name not in self.table:
            raise DataError(str(UnknownNameError("column to split by", name, self.label_names)))
        return one_value_a_row(name, self.table.column(name).to_numpy())
