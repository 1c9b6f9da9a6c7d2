"""A Parquet file larger than memory as a data set of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polytask.data.batch import ArraySource
from polytask.data.labels import row_weights_of
from polytask.data.streamed import RowGroups, StreamedSource
from polytask.data.tables import file_kind
from polytask.errors import DataError
from polytask.tasks.task import Task
from polytask.training.data_sets import TableData

__all__ = ["StreamedTable"]

_WINDOW = 200_000


class StreamedTable(TableData):
    """A table whose inputs are read from its Parquet file, row group by row group, as training needs them.

    Splits, codecs and transforms are those of a table in memory, and so are the tensors of a row; only the order of
    the rows in training is another: blocks of rows that lie together, shuffled among each other and within.

    Args:
        name: The source's name.
        table: Path of the file.
        window: Rows that are shuffled together; twice as many are held in memory, and at least two row groups.
        **settings: Those of :class:`~polytask.training.data_sets.TableData`.

    Raises:
        DataError: If it is not the path of a Parquet file.

    Note:
        Columns are read one at a time to fit the transform, and a label or a weight takes a few bytes a row for good.
    """

    def __init__(self, name: str, table: Any, *, window: int = _WINDOW, **settings: Any):
        if not isinstance(table, str | Path):
            raise DataError(
                f"Source {name!r} can only be streamed from a file, and got a {type(table).__name__}: give the path of "
                "a Parquet file, or take `streamed` out."
            )
        if file_kind(Path(table)) != "parquet":
            raise DataError(
                f"Source {name!r} can only be streamed from a Parquet file, and {table} is none: write it as one "
                "(pandas: DataFrame.to_parquet), or take `streamed` out."
            )
        super().__init__(name, table, **settings)
        self.path, self.window = Path(table), window
        self._reader: RowGroups | None = None

    @property
    def reader(self) -> RowGroups:
        """The row groups, shared by all parts, so that rows held in memory are held once."""
        if self._reader is None:
            self._reader = RowGroups(self.path, self.transform, 2 * self.window)
        return self._reader

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The rows as a source that reads them later; only their weights are read now.

        Raises:
            DataError: If the rows are not in the file's order.
        """
        if len(rows) > 1 and not (np.diff(rows) > 0).all():
            raise DataError(f"Rows of {self.name!r} must be asked for in the file's order.")
        weights = None if self.row_weights is None else row_weights_of(self.table, self.row_weights, rows)
        return StreamedSource(self.name, {}, {}, {}, weights, reader=self.reader, rows=rows, window=self.window)

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Fit the transform, a column at a time."""
        super().fit(tasks, rows, notes)
        self._reader = None

    def describe(self) -> dict[str, Any]:
        """Path, size, and a hash of the file's footer, which holds counts and ranges of each column of each group."""
        digest = hashlib.sha256(str(self.path.stat().st_size).encode())
        with self.path.open("rb") as file:
            file.seek(-8, 2)
            size = int.from_bytes(file.read(4), "little")
            file.seek(-8 - size, 2)
            digest.update(file.read(size))
        return {
            "path": self.origin,
            "rows": len(self.table),
            "columns": list(self.table.names),
            "inputs": list(self.inputs),
            "sha256": digest.hexdigest(),
        }
