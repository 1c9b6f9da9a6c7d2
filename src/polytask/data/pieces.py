"""A file of rows piece by piece, so that it may be larger than memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.data.json_lines import frames_of_lines, keys_of_lines
from polytask.data.table_files import MISSING, file_kind, text_errors, text_options
from polytask.data.tables import FrameTable, Table, open_table
from polytask.errors import DataError

__all__ = ["column_names", "count_rows", "pieces"]


def pieces(
    path: str | Path,
    n_rows: int,
    columns: Collection[str] | None = None,
    texts: Collection[str] = (),
    skip: int = 0,
    literal: Collection[str] = (),
) -> Iterator[Table]:
    r"""The rows of a file in their order, in pieces of at most ``n_rows``, the same pieces whenever it is read.

    Args:
        path: CSV, TSV (compressed too), JSON lines, Parquet, Feather or Arrow.
        n_rows: Rows of a piece.
        columns: Columns to read, if they are there; all if ``None``. Of text files, all are read in any case.
        texts: Columns of a text file that are texts, also in a piece in which all of them look like numbers.
        skip: Pieces to leave out at the start.
        literal: Columns of a text file whose texts are taken as they are written: ``NA`` is one, and no missing value.

    Raises:
        DataError: If the file cannot be read, or has no rows.
        MissingExtraError: If the format needs pyarrow and it is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(f"{folder}/rows.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
        ...     [piece.column("b").to_dict() for piece in pieces(f"{folder}/rows.csv", 2)]
        [{0: 2, 1: 4}, {2: 6}]
    """
    file = Path(path)
    kind = file_kind(file)
    if kind == "parquet":
        frames = _parquet(file, n_rows, columns, skip)
    elif kind == "arrow":
        frames = _arrow(file, n_rows, columns, skip)
    elif kind == "lines":
        frames = _lines(file, n_rows, skip)
    else:
        frames = _text(file, n_rows, texts, skip, literal)
    for first_row, frame in frames:
        table = FrameTable(frame, str(path), first_row=first_row)
        table.folder = file.parent
        yield table


def column_names(path: str | Path) -> list[str]:
    """The columns of a file, of which nothing else is read where its format allows that.

    Raises:
        DataError: If the file cannot be read.
    """
    file = Path(path)
    kind = file_kind(file)
    if kind == "lines":
        return keys_of_lines(file)
    if kind == "text":
        with text_errors(file):
            names: list[str] = text_options(file)["names"]
            return names
    return list(open_table(file).names)


def count_rows(path: str | Path) -> int | None:
    """How many rows a file has, where it says so itself; ``None`` for text."""
    return None if file_kind(Path(path)) in ("text", "lines") else len(open_table(path))


Frames = Iterator[tuple[int, pd.DataFrame]]


def _text(path: Path, n_rows: int, texts: Collection[str], skip: int, literal: Collection[str]) -> Frames:
    seen = 0
    with text_errors(path):
        options = text_options(path)
        names: list[str] = options["names"]
        options["dtype"] = {name: str for name in names if name in texts or name in literal}
        if not options["dtype"].keys().isdisjoint(literal):
            missing = {name: list(MISSING) for name in names if name not in literal}
            options |= {"keep_default_na": False, "na_values": missing}
        # All columns are read: with some only, pandas would say nothing of a row that has too many cells.
        with pd.read_csv(path, chunksize=n_rows, **options) as chunks:
            for number, frame in enumerate(chunks):
                if number >= skip and len(frame):
                    yield seen, frame
                seen += len(frame)
    if not seen:
        raise DataError(f"{path} has no rows.")


def _lines(path: Path, n_rows: int, skip: int) -> Frames:
    seen, names = 0, keys_of_lines(path)
    for number, frame in enumerate(frames_of_lines(path, n_rows)):
        if number >= skip:
            yield seen, frame.reindex(columns=names)
        seen += len(frame)
    if not seen:
        raise DataError(f"{path} has no rows.")


def _parquet(path: Path, n_rows: int, columns: Collection[str] | None, skip: int) -> Frames:
    table = open_table(path)
    import pyarrow
    from pyarrow import parquet

    names = list(table.names) if columns is None else [name for name in table.names if name in columns]
    with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        seen = number = 0
        for groups, size in _together(sizes, n_rows):
            n_pieces = -(-size // n_rows)
            if number + n_pieces <= skip:  # nothing of it is read
                number, seen = number + n_pieces, seen + size
                continue
            try:
                for frame in _exactly(file.iter_batches(n_rows, groups, names or list(table.names[:1])), n_rows):
                    if number >= skip:
                        yield seen, frame
                    number, seen = number + 1, seen + len(frame)
            except (pyarrow.ArrowException, OSError) as error:
                raise DataError(f"{path} cannot be read after row {seen}: {error}") from error


def _together(sizes: list[int], n_rows: int) -> Iterator[tuple[list[int], int]]:
    """Neighbouring row groups with at least the rows of a piece, so that many small ones do not make small pieces."""
    groups: list[int] = []
    total = 0
    for group, size in enumerate(sizes):
        groups, total = [*groups, group], total + size
        if total >= n_rows or group == len(sizes) - 1:
            yield groups, total
            groups, total = [], 0


def _exactly(batches: Any, n_rows: int) -> Iterator[pd.DataFrame]:
    """Batches of any sizes as frames of ``n_rows``, the last one shorter."""
    import pyarrow

    held: list[Any] = []
    n_held = 0
    for batch in batches:
        held, n_held = [*held, batch], n_held + len(batch)
        while n_held >= n_rows:
            table = pyarrow.Table.from_batches(held)
            yield _frame(table.slice(0, n_rows))
            rest = table.slice(n_rows)
            held, n_held = rest.to_batches(), len(rest)
    if n_held:
        yield _frame(pyarrow.Table.from_batches(held))


def _arrow(path: Path, n_rows: int, columns: Collection[str] | None, skip: int) -> Frames:
    names = open_table(path).names
    from pyarrow import feather

    table = feather.read_table(path, memory_map=True)
    table = table.select([name for name in names if columns is None or name in columns] or list(names[:1]))
    for start in range(skip * n_rows, len(table), n_rows):
        yield start, _frame(table.slice(start, n_rows))


def _frame(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    return frame.reset_index(drop=True)
