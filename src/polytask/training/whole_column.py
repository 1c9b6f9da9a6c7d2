"""A table whose one column is read whole by an encoder, as a data set of a run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytask.data.batch import ArraySource
from polytask.data.digests import digest_of
from polytask.data.labels import row_weights_of
from polytask.data.reads import Reads
from polytask.data.streamed import StreamedSource
from polytask.data.table import Table
from polytask.data.text_rows import CellReader, Cells, HeldCells
from polytask.errors import InputError, TargetError
from polytask.models.views import View
from polytask.shapes import Inputs, Tensor
from polytask.tasks.task import Task
from polytask.training.table_rows import TableRows

__all__ = ["PIECE", "ColumnData", "window_of"]

PIECE = 4096
"""Rows whose cells are looked at together."""
_WINDOW = 20_000


class ColumnData(TableRows):
    """A table whose one column is the input; the others hold labels, groups, times and weights.

    Args:
        name: The source's name.
        table: The table, of whose other columns each is read when it is asked for.
        cells: The column's cells.
        reads: Which column it is, and how it is read.
        row_weights: Column of factors on the losses of each row.
        streamed: Whether rows stay where they are until a batch needs them; or how many of them are shuffled together,
            where they are read in blocks.

    Raises:
        InputError: If the column of weights is not there.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        cells: Cells,
        reads: Reads,
        *,
        row_weights: str | None = None,
        streamed: bool | int = False,
    ):
        super().__init__(name, table, row_weights)
        self.cells, self.reads, self.is_streamed = cells, reads, streamed is not False
        self.window = window_of(streamed)

    @property
    def label_names(self) -> Sequence[str]:
        """All columns but the one that is read."""
        return [name for name in self.table.names if name != self.reads.column]

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise if the column that is read is a target.

        Raises:
            TargetError: Naming the task.
        """
        for task in tasks:
            if self.reads.column in task.targets:
                raise TargetError(f"{task.who} cannot have {self.reads.column!r} as its target, which is what is read.")

    @property
    @abstractmethod
    def reader(self) -> CellReader:
        """What reads cells and makes tensors of them; known after :meth:`fit`."""

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The rows: where they are, if they are streamed, or else as tensors."""
        weights = None if self.row_weights is None else row_weights_of(self.table, self.row_weights, rows)
        if not self.is_streamed:
            return ArraySource(self.name, _whole(self.reader, rows), {}, {}, weights)
        window = self.window
        return StreamedSource(self.name, {}, {}, {}, weights, reader=self.reader, rows=rows, window=window)

    def view(self, task: Task) -> View | None:
        """``None``: the whole column is read."""
        if task.inputs is not None:
            raise InputError(f"{task.who} reads all of {self.reads.column!r} of {self.name!r}: take its `inputs` out.")
        return None

    def describe(self) -> dict[str, Any]:
        """Path, size, and a hash of the cells (of streamed texts, the size of their file) and the other columns."""
        held = self.cells.cells if isinstance(self.cells, HeldCells) else Path(self.table.origin).stat().st_size
        columns = {name: self.table.column(name).to_numpy() for name in self.label_names}
        return {
            "path": self.table.origin,
            "rows": len(self),
            "columns": list(self.table.names),
            "inputs": [self.reads.column],
            "sha256": digest_of(held, columns, vars(self.reads)),
        }


def window_of(streamed: bool | int) -> int:
    """How many rows are shuffled together."""
    return _WINDOW if isinstance(streamed, bool) else int(streamed)


def _whole(reader: CellReader, rows: np.ndarray) -> Inputs:
    """All rows in memory, read piece by piece."""
    parts = [reader.read(rows[start : start + PIECE]) for start in range(0, len(rows), PIECE)]
    if isinstance(parts[0], Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return {key: torch.cat([part[key] for part in parts if not isinstance(part, Tensor)]) for key in parts[0]}
