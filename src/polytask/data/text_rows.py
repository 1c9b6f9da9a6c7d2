"""Texts that stay in their file until a batch asks for them: a column of Parquet, CSV, TSV or JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from polytask.data.json_lines import object_of
from polytask.data.streamed import RowGroups
from polytask.data.table import FrameTable, Table
from polytask.data.table_files import text_errors, text_options
from polytask.errors import DataError
from polytask.shapes import Inputs, Int, Tensor

__all__ = ["LINES", "CellReader", "Cells", "HeldCells", "ParquetCells", "TextLines"]

LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of files whose rows are found by their line ends."""
_PIECE = 1 << 24
"""Bytes of a file that are looked through at once."""


class Cells(Protocol):
    """The cells of one column, from wherever they lie."""

    @property
    def edges(self) -> np.ndarray | None:
        """See :class:`~polytask.data.streamed.Reader`."""
        ...

    def read(self, rows: np.ndarray) -> Sequence[Any]:
        """Some of them, in the order asked."""
        ...


class HeldCells:
    """Cells in memory: names of files, or texts of a table that is in memory itself."""

    edges = None

    def __init__(self, cells: np.ndarray):
        self.cells = cells

    def read(self, rows: np.ndarray) -> Sequence[Any]:
        """Some of them."""
        found: list[Any] = self.cells[rows].tolist()
        return found


class _OneColumn:
    def __init__(self, column: str):
        self.needed = (column,)

    def transform(self, table: Table, /) -> dict[str, np.ndarray]:
        return {"": table.column(self.needed[0]).to_numpy(dtype=object)}


class ParquetCells:
    """A column of a Parquet file, the row groups used last being held.

    Args:
        path: The file.
        column: The column.
        hold: So many rows are held; one group is in any case.
    """

    def __init__(self, path: Path, column: str, hold: int):
        self._groups = RowGroups(path, _OneColumn(column), hold)
        self.edges = self._groups.edges

    def read(self, rows: np.ndarray) -> Sequence[Any]:
        """Some cells."""
        found: list[Any] = self._groups.read(rows)[""].tolist() if len(rows) else []
        return found


class TextLines:
    r"""A column of a text file, by the places at which its rows begin.

    Args:
        path: A CSV, TSV or JSON-lines file in UTF-8, not compressed.
        column: The column, or the key of each line's object.

    Raises:
        DataError: If the column is not there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "notes.csv"
        ...     _ = path.write_text('id,text\n1,"one\nand a half"\n\n2,two\n')
        ...     TextLines(path, "text").read(np.array([1, 0]))
        ['two', 'one\nand a half']

    Note:
        Memory: 8 bytes a row. A quoted cell may hold line ends; a quotation mark inside a cell that is not quoted may
        not stand there, as in any CSV.
    """

    edges = None

    def __init__(self, path: Path, column: str):
        self.path, self.column = path, column
        self.is_json = path.suffix.lower() in (".jsonl", ".ndjson")
        self.separator = "\t" if path.suffix.lower() == ".tsv" else ","
        found = list(_row_places(path, quoted=not self.is_json))
        places = np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)
        if len(places) < (1 if self.is_json else 2):
            raise DataError(f"{path} has no rows.")
        if self.is_json:
            self.starts, self.stops = places[:, 0], places[:, 1]
        else:
            self.names = [name.strip() for name in self._cells(*places[0])]
            if column not in self.names:
                raise DataError(f"{path} has no column {column!r}; it has {', '.join(self.names)}.")
            self.starts, self.stops = places[1:, 0], places[1:, 1]

    def __len__(self) -> int:
        return len(self.starts)

    def beside(self) -> Table:
        """The other columns, in memory.

        Raises:
            DataError: If a row is not as the others are.
        """
        if self.is_json:
            objects = (self._object(row) for row in range(len(self)))
            frame = pd.DataFrame([{k: v for k, v in o.items() if k != self.column} for o in objects])
        else:
            with text_errors(self.path):
                options = text_options(self.path)
                frame = pd.read_csv(self.path, usecols=lambda name: name != self.column, **options)
        if not frame.columns.size:
            raise DataError(f"{self.path} has no column beside {self.column!r}, and so no labels.")
        if len(frame) != len(self):
            raise DataError(
                f"{self.path} has {len(self)} rows by its line ends, and {len(frame)} as a table: there is a quotation "
                "mark too many or too few."
            )
        table = FrameTable(frame, str(self.path))
        table.folder = self.path.parent
        return table

    def read(self, rows: np.ndarray) -> Sequence[Any]:
        """Some cells."""
        return [self._cell(int(row)) for row in rows]

    def _cell(self, row: int) -> Any:
        if self.is_json:
            return self._object(row).get(self.column)
        cells = self._cells(self.starts[row], self.stops[row])
        if len(cells) != len(self.names):
            raise DataError(
                f"{self.path}, row {row} has {len(cells)} cells, and the first line {len(self.names)} names."
            )
        return cells[self.names.index(self.column)]

    def _object(self, row: int) -> dict[str, Any]:
        return object_of(self._text(self.starts[row], self.stops[row]), self.path, row)

    def _cells(self, start: int, stop: int) -> list[str]:
        text = self._text(start, stop)
        if len(text) > csv.field_size_limit():  # 131,072 unless raised; a cell may be a book
            csv.field_size_limit(len(text))
        try:
            return next(csv.reader(io.StringIO(text, newline=""), delimiter=self.separator, skipinitialspace=True))
        except (csv.Error, StopIteration) as error:
            raise DataError(f"{self.path} has a row that is no {self.path.suffix} at byte {start}: {error}.") from error

    def _text(self, start: int, stop: int) -> str:
        try:
            with self.path.open("rb") as file:
                file.seek(int(start))
                return file.read(int(stop - start)).decode("utf-8-sig" if start == 0 else "utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} cannot be read at byte {start}: {error}.") from error


def _row_places(path: Path, *, quoted: bool) -> Iterator[np.ndarray]:
    """Where rows begin and end ``[n, 2]``, empty lines left out; a line end inside quotation marks ends none."""
    start = at = 0
    is_inside = False
    with path.open("rb") as file:
        while block := file.read(_PIECE):
            raw = np.frombuffer(block, np.uint8)
            ends = np.flatnonzero(raw == ord("\n"))
            if quoted:
                marks = np.flatnonzero(raw == ord('"'))
                ends = ends[(np.searchsorted(marks, ends) + is_inside) % 2 == 0]
                is_inside = (len(marks) + is_inside) % 2 == 1
            edges = np.concatenate([[start], ends + at + 1])
            yield _not_empty(path, np.stack([edges[:-1], edges[1:] - 1], 1))
            start, at = int(edges[-1]), at + len(block)
    if start < at:
        yield _not_empty(path, np.array([[start, at]]))


def _not_empty(path: Path, places: np.ndarray) -> np.ndarray:
    """The rows that hold anything; an empty one is short, in files of Windows one byte before its end."""
    kept = np.ones(len(places), dtype=bool)
    with path.open("rb") as file:
        for row in np.flatnonzero(places[:, 1] - places[:, 0] < 2):
            file.seek(int(places[row, 0]))
            kept[row] = bool(file.read(int(places[row, 1] - places[row, 0])).strip())
    return places[kept]


class CellReader:
    """The cells of a column as tensors, see :class:`~polytask.data.streamed.Reader`.

    Args:
        cells: The cells.
        decode: Cells, and the numbers of their rows for messages, to tensors.
        count: Cells to their numbers of words, where they are texts.
    """

    def __init__(
        self,
        cells: Cells,
        decode: Callable[[Sequence[Any], np.ndarray], Inputs],
        count: Callable[[np.ndarray], Int[np.ndarray, " N"]] | None = None,
    ):
        self.cells, self._decode, self._count = cells, decode, count

    @property
    def edges(self) -> np.ndarray | None:
        """Those of the cells."""
        return self.cells.edges

    def read(self, rows: np.ndarray) -> Inputs:
        """The tensors of rows."""
        return self._decode(self.cells.read(rows), rows)

    def lengths(self, rows: np.ndarray) -> Int[Tensor, " N"] | None:
        """Number of words of each row; all are read for it, once."""
        return None if self._count is None else torch.from_numpy(self._count(rows))
