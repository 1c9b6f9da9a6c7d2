"""Rows of a Parquet file that stay in the file until a batch asks for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from polytask.data.batch import ArraySource, Batch
from polytask.data.tables import FrameTable, file_kind, open_table
from polytask.data.transform import TableTransform
from polytask.errors import DataError
from polytask.shapes import Int, Tensor

__all__ = ["RowGroups", "StreamedSource"]


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

    def __init__(self, path: str | Path, transform: TableTransform, hold: int):
        self.path, self.transform, self.hold = Path(path), transform, hold
        if file_kind(self.path) != "parquet":
            raise DataError(f"{path} is no Parquet file; only those can be read row group by row group.")
        open_table(self.path)  # says what is wrong with the file, or that pyarrow is missing
        from pyarrow import parquet

        self._file: Any = parquet.ParquetFile(self.path)
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self.edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._held: OrderedDict[int, dict[str, Tensor]] = OrderedDict()
        self.n_read = 0
        """Groups that were read from the file, those read again counted again."""

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The tensors of rows of the file, in the order asked."""
        groups = np.searchsorted(self.edges, rows, side="right") - 1
        found: dict[str, Tensor] = {}
        for group in np.unique(groups).tolist():
            at = np.flatnonzero(groups == group)
            places, inside = torch.from_numpy(at), torch.from_numpy(rows[at] - self.edges[group])
            for name, tensor in self._group(group).items():
                out = found.setdefault(name, tensor.new_empty((len(rows), *tensor.shape[1:])))
                out[places] = tensor[inside]
        return found

    def _group(self, group: int) -> dict[str, Tensor]:
        held = self._held.pop(group, None)
        if held is None:
            held = self._load(group)
            self.n_read += 1
            sizes = np.diff(self.edges)
            while self._held and sizes[[*self._held, group]].sum() > self.hold:
                self._held.popitem(last=False)
        self._held[group] = held
        return held

    def _load(self, group: int) -> dict[str, Tensor]:
        import pyarrow

        names = list(self.transform.needed)
        try:
            frame = self._file.read_row_group(group, columns=names).to_pandas(date_as_object=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read after row {self.edges[group]}: {error}") from error
        table = FrameTable(frame, str(self.path), first_row=int(self.edges[group]))
        table.folder = self.path.parent
        return self.transform.transform(table)


@dataclass(frozen=True)
class StreamedSource(ArraySource):
    """A source whose inputs stay in a Parquet file; its labels and weights are in memory.

    Args:
        reader: The file's row groups.
        rows: Rows of the file that are this source's, ``[N]``; ascending, if they are to be trained on.
        window: Rows that are shuffled together in training.
        name: See :class:`~polytask.data.ArraySource`, as for the other arguments; ``inputs`` holds nothing.

    Note:
        Memory: 8 bytes a row for its number, 5 to 9 for each label, and the tensors of two windows of rows. A batch
        of rows from all over the file reads many groups; the order that training asks for
        (:class:`~polytask.data.shuffles.BlockShuffle` over :attr:`blocks`) reads each once a pass.
    """

    reader: RowGroups = field(kw_only=True)
    rows: np.ndarray = field(kw_only=True)
    window: int = field(kw_only=True)

    is_in_memory: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def blocks(self) -> tuple[Sequence[int], int]:
        """How many of the rows each row group holds, and how many rows are shuffled together."""
        counts = np.diff(np.searchsorted(self.rows, self.reader.edges))
        return [int(count) for count in counts if count], self.window

    def batch(self, rows: Int[Tensor, " B"]) -> Batch:
        """The given rows, read from their row groups."""
        return Batch(
            inputs=self.reader.read(self.rows[rows.numpy()]),
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
