"""Files or texts that one column of a table names or holds, as a data set of a run; in memory, or larger than it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from polytask.data.batch import ArraySource
from polytask.data.decoding import FileTransform, PixelTransform, WaveTransform
from polytask.data.files import Files
from polytask.data.reads import FILE, Reads, form_of, is_of_files, listed
from polytask.data.table import Table
from polytask.data.table_files import file_kind
from polytask.data.tables import open_table
from polytask.data.text import TextTransform, words_of
from polytask.data.text_rows import LINES, CellReader, Cells, HeldCells, ParquetCells, TextLines
from polytask.data.vocabulary import WordCodes
from polytask.errors import DataError, InputError, TargetError, UnknownNameError
from polytask.models.inputs import SINGLE, Field, InputShape
from polytask.shapes import Inputs, Int, Tensor
from polytask.tasks.task import Task
from polytask.training.text_data import tags_beside_words, word_fields
from polytask.training.whole_column import PIECE, ColumnData, window_of

__all__ = ["ColumnData", "FileData", "TextColumnData", "column_data"]

_SOME = 100
"""Cells by which a column's form is told."""


class FileData(ColumnData):
    """Images or recordings, each in a file of its own; only their names and labels are in memory.

    The headers of all files are looked at before anything is learned.

    Args:
        name: The source's name.
        table: The table.
        cells: Names of the files.
        reads: Their column, and how they are read.
        files: Where they lie.
        **settings: Those of :class:`ColumnData`.

    Raises:
        InputError: If a row names no file.

    Note:
        The hash that says whether a run goes on with the same data is of names and labels, not of what is in the files:
        one that is damaged can be mended, and the run resumed.
    """

    def __init__(self, name: str, table: Table, cells: HeldCells, reads: Reads, files: Files, **settings: Any):
        super().__init__(name, table, cells, reads, **settings)
        self.files: Final = files
        missing = pd.isna(cells.cells)
        if missing.any():
            raise InputError(
                f"Column {reads.column!r} of {table.origin} names no file in row {int(np.flatnonzero(missing)[0])}: "
                "leave such rows out.",
                reads.column,
            )
        self.names: list[str] = [str(cell).strip() for cell in cells.cells]
        self.file: FileTransform = self._unfitted()

    def _unfitted(self) -> FileTransform:
        reads = self.reads
        if reads.form == "waves":
            return WaveTransform(reads.column, reads.seconds, reads.rate)
        return PixelTransform(reads.column, reads.side)

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Look at all headers; learn sizes and rates from the training rows."""
        self.file = self._unfitted()  # sources of another division keep what was learned for them
        notes.extend(f"{self.name!r}: {note}" for note in self.file.fit(self.files, self.names, rows))

    @property
    def reader(self) -> CellReader:
        """The reader that decodes files."""
        file, files = self.file, self.files

        def decoded(names: Sequence[Any], rows: np.ndarray) -> Tensor:
            return file.decode(files, names)

        return CellReader(HeldCells(np.array(self.names, dtype=object)), decoded)

    def shape(self) -> InputShape:
        """One field."""
        return InputShape({SINGLE: Field(self.file.shape)})


class TextColumnData(ColumnData):
    """Texts that a column holds: of a table in memory, or of a file that they are read from batch by batch.

    Args:
        name: The source's name.
        table: The table.
        cells: The texts.
        reads: Their column, and how many words are read.
        vocabulary: The codes of words; one object for all sources that one network reads.
        **settings: Those of :class:`ColumnData`.

    Note:
        While a vocabulary is learned, all different words of the training rows are in memory. Texts are split
        into words in every pass.
    """

    def __init__(
        self, name: str, table: Table, cells: Cells, reads: Reads, vocabulary: WordCodes | None = None, **settings: Any
    ):
        super().__init__(name, table, cells, reads, **settings)
        self.text: TextTransform = TextTransform(vocabulary, column=reads.column)
        self._kept: TextTransform | None = None

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Learn words, pieces, and how long a row is, in one pass over the training rows."""
        lengths: list[int] = []
        self._kept = None

        def words() -> Iterator[list[str]]:
            for text in self._words(np.sort(rows)):
                lengths.append(len(text))
                yield text

        coming = words()
        self.text.vocabulary.learn(self.name, coming)
        for _ in coming:  # a vocabulary that has learned elsewhere does not look at them
            pass
        self.text.length = min(max(lengths), self.reads.longest)
        if cut := sum(length > self.text.length for length in lengths):
            notes.append(f"{cut} training texts of {self.name!r} are read up to word {self.text.length} only.")

    def words(self, rows: np.ndarray) -> list[list[str]]:
        """The words of each row, all in memory."""
        return list(self._words(rows))

    def _words(self, rows: np.ndarray) -> Iterator[list[str]]:
        for start in range(0, len(rows), PIECE):
            piece = rows[start : start + PIECE]
            yield from words_of(self.cells.read(piece), self._who, piece)

    @property
    def _who(self) -> str:
        return f"Texts of {self.table.origin}"

    @property
    def reader(self) -> CellReader:
        """The reader that splits texts into words and encodes them."""
        if self._kept is None:  # the vocabulary may learn another division's words while this one's sources are read
            self._kept = TextTransform().load_state(self.text.state())
        text = self._kept

        def encoded(texts: Sequence[Any], rows: np.ndarray) -> Inputs:
            return text.encode(words_of(texts, self._who, rows))

        def counted(rows: np.ndarray) -> Int[np.ndarray, " N"]:
            order = np.argsort(rows, kind="stable")
            counts = np.empty(len(rows), dtype=np.int64)
            counts[order] = [len(words) for words in self._words(rows[order])]
            return np.minimum(counts, text.length)

        return CellReader(self.cells, encoded, counted)

    def source(self, tasks: Sequence[Task], rows: np.ndarray, unknown: list[str] | None = None) -> ArraySource:
        """The given rows, tags beside their words.

        Raises:
            TargetError: If a row has another number of tags than of words.
        """
        made = super().source(tasks, rows, unknown)
        return tags_beside_words(made, tasks, lambda _: self.text.length, lambda task: self._check_tags(task, rows))

    def _check_tags(self, task: Task, rows: np.ndarray) -> None:
        given = self.labels(task, rows)
        for row, value, text in zip(rows, given, self._words(rows), strict=True):
            n_tags = len(value.split() if isinstance(value, str) else value) if value is not None else 0
            if n_tags and n_tags != len(text):
                raise TargetError(
                    f"{task.who} has {n_tags} tags in row {row} of {self.table.origin}, whose text has {len(text)} "
                    f"words: {' '.join(text[:8])!r}... Write the text with its words as the tags have them."
                )

    def shape(self) -> InputShape:
        """Fields ``words`` and ``pieces``."""
        return word_fields(self.text)


def column_data(
    name: str,
    data: Any,
    reads: Reads,
    *,
    vocabulary: WordCodes | None = None,
    row_weights: str | None = None,
    streamed: bool | int = False,
) -> ColumnData:
    """The data set of a folder or archive of files, or of a table that names files or holds texts.

    Args:
        name: The source's name.
        data: The folder, the zip archive, or the table: a path, or anything that
            :func:`~polytask.data.tables.open_table` opens. Paths in a table start at its folder.
        reads: The column that is read, and how.
        vocabulary: Of texts.
        row_weights: Column of factors on the losses of each row.
        streamed: See :class:`ColumnData`.

    Raises:
        DataError: If there are no such files, texts cannot be streamed from there, or a file cannot be used.
        InputError: If the column is not there.

    Example:
        >>> data = column_data("notes", {"text": ["a good day", "bad"], "mood": ["+", "-"]}, Reads("text"))
        >>> len(data), list(data.label_names)
        (2, ['mood'])
    """
    settings: dict[str, Any] = {"row_weights": row_weights, "streamed": streamed}
    if is_of_files(data):
        table, form = listed(Path(data), reads)
        reads = replace(reads, column=FILE, form=form)
        return FileData(name, table, _held(table, FILE), reads, Files(Path(data)), **settings)
    table, cells = _opened(data, reads.column, window_of(streamed))
    form = reads.form or form_of(pd.Series(cells.read(np.arange(min(len(table), _SOME)))))
    reads = replace(reads, form=form)
    if form != "words":
        table = open_table(data)
        return FileData(name, table, _held(table, reads.column), reads, Files(table.folder), **settings)
    if streamed is False and not isinstance(cells, TextLines):
        cells = _held(table, reads.column)
    elif isinstance(cells, HeldCells):
        raise DataError(
            f"Texts of {name!r} can only be streamed from a Parquet file, or a CSV, TSV or JSON-lines file that is not "
            "compressed."
        )
    return TextColumnData(name, table, cells, reads, vocabulary, **settings)


def _opened(data: Any, column: str, window: int) -> tuple[Table, Cells]:
    """The columns beside the one that is read, and its cells, which stay where they are if they can.

    Raises:
        InputError: If there is no such column.
    """
    path = Path(data) if isinstance(data, str | Path) else None
    if path is not None and path.suffix.lower() in LINES and file_kind(path) in ("text", "lines"):
        lines = TextLines(path, column)
        return lines.beside(), lines
    table = open_table(data)
    if column not in table:
        raise InputError(str(UnknownNameError(f"column of {table.origin}", column, table.names)))
    if path is not None and file_kind(path) == "parquet":
        return table, ParquetCells(path, column, 2 * window)
    return table, _held(table, column)


def _held(table: Table, column: str) -> HeldCells:
    if column not in table:
        raise InputError(str(UnknownNameError(f"column of {table.origin}", column, table.names)))
    return HeldCells(table.column(column).to_numpy(dtype=object))
