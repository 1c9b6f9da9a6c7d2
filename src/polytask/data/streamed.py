"""Rows that stay in their files until a batch asks for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from polytask.data.batch import ArraySource, Batch, readable
from polytask.data.tables import FrameTable, Table, file_kind, open_table
from polytask.errors import DataError
from polytask.shapes import Inputs, Int, Tensor

__all__ = ["Reader", "RowGroups", "StreamedSource"]


class Reader(Protocol):
    """What gives the inputs of any rows, from wherever they lie; called by several threads at once."""

    @property
    def edges(self) -> np.ndarray | None:
        """Where blocks begin that are read as a whole, and the last one ends; ``None`` if any row is as near as any."""
        ...

    def read(self, rows: np.ndarray) -> Inputs:
        """The inputs of rows, in the order asked.

        Raises:
            DataError: If they cannot be read; names the file.
        """
        ...

    def lengths(self, rows: np.ndarray) -> Int[Tensor, " N"] | None:
        """Number of words of each row, where rows are texts."""
        ...


class Made(Protocol):
    """How columns of a table become arrays or tensors: a fitted :class:`~polytask.data.TableTransform`, for one."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that are read."""
        ...

    def transform(self, table: Table, /) -> Mapping[str, Any]:
        """The arrays or tensors, by name."""
        ...


class RowGroups:
    """The row groups of a Parquet file as tensors, the last few of them held.

    Args:
        path: The file.
        transform: How columns become tensors, fitted.
        hold: So many rows are held; one group is in any case.

    Raises:
        DataError: If it is no Parquet file, or cannot be read.
        MissingExtraError: If pyarrow is not installed.
    """

    def __init__(self, path: str | Path, transform: Made, hold: int):
        self.path, self.transform, self.hold = Path(path), transform, hold
        if file_kind(self.path) != "parquet":
            raise DataError(f"{path} is no Parquet file; only those can be read row group by row group.")
        open_table(self.path)  # says what is wrong with the file, or that pyarrow is missing
        from pyarrow import parquet

        self._file: Any = parquet.ParquetFile(self.path)
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self.edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._held: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        self._one_at_a_time = threading.Lock()
        self.n_read = 0
        """Groups that were read from the file, those read again counted again."""

    def read(self, rows: np.ndarray) -> dict[str, Any]:
        """The tensors of rows of the file, in the order asked."""
        groups = np.searchsorted(self.edges, rows, side="right") - 1
        found: dict[str, Any] = {}
        for group in np.unique(groups).tolist():
            at = np.flatnonzero(groups == group)
            inside = rows[at] - self.edges[group]
            with self._one_at_a_time:
                held = self._group(group)
            for name, part in held.items():
                out = found.setdefault(name, _like(part, len(rows)))
                out[at] = part[inside]
        return found

    def lengths(self, rows: np.ndarray) -> None:
        """Tables have no words."""

    def _group(self, group: int) -> Mapping[str, Any]:
        held = self._held.pop(group, None)
        if held is None:
            held = self._load(group)
            self.n_read += 1
            sizes = np.diff(self.edges)
            while self._held and sizes[[*self._held, group]].sum() > self.hold:
                self._held.popitem(last=False)
        self._held[group] = held
        return held

    def _load(self, group: int) -> Mapping[str, Any]:
        import pyarrow

        names = list(self.transform.needed)
        try:
            frame = self._file.read_row_group(group, columns=names).to_pandas(date_as_object=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read after row {self.edges[group]}: {error}") from error
        table = FrameTable(frame, str(self.path), first_row=int(self.edges[group]))
        table.folder = self.path.parent
        return self.transform.transform(table)


def _like(part: Any, n_rows: int) -> Any:
    """Room for so many rows of the same sort."""
    shape = (n_rows, *part.shape[1:])
    return part.new_empty(shape) if isinstance(part, Tensor) else np.empty(shape, dtype=part.dtype)


@dataclass(frozen=True)
class StreamedSource(ArraySource):
    """A source whose inputs stay in their files; its labels and weights are in memory.

    Args:
        reader: What reads the files.
        rows: Rows of the reader that are this source's, ``[N]``; ascending, if it reads block by block and they are to
            be trained on.
        window: Rows that are shuffled together in training, where the reader reads block by block.
        name: See :class:`~polytask.data.ArraySource`, as for the other arguments; ``inputs`` holds nothing.

    Note:
        Memory: 8 bytes a row for its number, 5 to 9 for each label, and what the reader holds: the tensors of two
        windows of rows of a table; names or offsets of files and texts. A batch of a table's rows from all over the
        file reads many groups; the order that training asks for
        (:class:`~polytask.data.shuffles.BlockShuffle` over :attr:`blocks`) reads each once a pass.
    """

    reader: Reader = field(kw_only=True)
    rows: np.ndarray = field(kw_only=True)
    window: int = field(kw_only=True)

    is_in_memory: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Int[Tensor, " N"] | None:
        """Number of words of each row, for sources of texts; all of them are read for it."""
        return self.reader.lengths(self.rows)

    @property
    def blocks(self) -> tuple[Sequence[int], int] | None:
        """How many of the rows each block holds, and how many rows are shuffled together."""
        if self.reader.edges is None:
            return None
        counts = np.diff(np.searchsorted(self.rows, self.reader.edges))
        return [int(count) for count in counts if count], self.window

    def batch(self, rows: Int[Tensor, " B"]) -> Batch:
        """The given rows, read from their files."""
        inputs = self.reader.read(self.rows[rows.numpy()])
        return Batch(
            inputs=readable(inputs) if isinstance(inputs, Tensor) else {k: readable(v) for k, v in inputs.items()},
            source=self.name,
            **self._of(rows),
        )

    def take(self, rows: Int[Tensor, " M"]) -> StreamedSource:
        """A source of the given rows only."""
        return StreamedSource(
            name=self.name,
            inputs={},
            **self._of(rows),
            ranked={k: v[rows] for k, v in self.ranked.items()},
            reader=self.reader,
            rows=self.rows[rows.numpy()],
            window=self.window,
        )
