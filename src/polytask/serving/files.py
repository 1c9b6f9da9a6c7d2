"""Whole files over HTTP: a table in, its answers out in the same format or another."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.data.pieces import pieces
from polytask.data.tables import open_table, write_table
from polytask.errors import DataError, MissingExtraError
from polytask.serving.limits import Limits
from polytask.serving.needed import NeededColumns
from polytask.serving.refusals import Refusal

__all__ = ["FORMATS", "format_of", "read_file", "written"]

FORMATS = {
    "text/csv": ".csv",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.apache.arrow.file": ".arrow",
    "application/vnd.apache.arrow.stream": ".arrows",
}
"""Endings of the files of each content type."""

_INFLATION = 20
"""How many times larger than its body a Parquet file may say that it is in memory."""


def format_of(content_type: str) -> str:
    """The ending that a content type stands for.

    Raises:
        Refusal: 415, if it is none of those known.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in FORMATS:
        message = f"The content type must be one of {', '.join(FORMATS)}; got {kind!r}."
        if kind.startswith("multipart/"):
            message += " Send the file itself, not a form: curl URL -H 'Content-Type: text/csv' --data-binary @FILE.csv"
        raise Refusal(415, "format", message)
    return FORMATS[kind]


def read_file(body: bytes, ending: str, needed: NeededColumns, limits: Limits) -> tuple[pd.DataFrame, list[str]]:
    """The needed columns of a file; those that are not there are left for the bundle to name.

    Returns:
        The columns, and the names of those that are not needed.

    Raises:
        DataError: If it cannot be read.
        Refusal: 413, if it has too many rows, or is far larger in memory.
    """
    if not body:
        raise DataError("The file is empty.")
    if ending == ".arrows":
        return _taken(open_table(_arrow_stream(body)), needed, limits)
    if ending == ".parquet":
        _check_parquet(body, limits)
    with tempfile.TemporaryDirectory(prefix="polytask-") as folder:
        path = Path(folder) / f"file{ending}"
        path.write_bytes(body)
        try:
            if ending == ".csv":
                # A row more than is taken is enough to know.
                table = next(pieces(path, limits.file_rows + 1, texts=needed.texts, literal=needed.literal))
                return _taken(table, needed, limits)
            return _taken(open_table(path), needed, limits)
        except DataError as error:
            raise DataError(str(error).replace(str(path), "The file")) from error


def _taken(table: Any, needed: NeededColumns, limits: Limits) -> tuple[pd.DataFrame, list[str]]:
    _check_rows(len(table), limits)
    taken = [name for name in table.names if name in needed.names]
    # An index of its own, so that a file without any needed column still has its rows.
    frame = pd.DataFrame({name: table.column(name) for name in taken}, index=pd.RangeIndex(len(table)))
    return frame, needed.ignored(table.names)


def _check_rows(n_rows: int, limits: Limits) -> None:
    if n_rows > limits.file_rows:
        raise Refusal(413, "rows", f"This server takes files of up to {limits.file_rows:,} rows; send it in parts.")


def _arrow_stream(body: bytes) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("reading Arrow", "pyarrow", "parquet") from error
    try:
        return pyarrow.ipc.open_stream(pyarrow.py_buffer(body)).read_all()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"The file is no Arrow stream that can be read: {error}") from error


def _check_parquet(body: bytes, limits: Limits) -> None:
    """A small file may hold very many equal rows; its own table of contents tells before they are unpacked."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "pyarrow", "parquet") from error
    try:
        told = parquet.ParquetFile(pyarrow.BufferReader(body)).metadata
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"The file is no Parquet file that can be read: {error}") from error
    _check_rows(told.num_rows, limits)
    size = sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups))
    if size > _INFLATION * limits.bytes:
        raise Refusal(413, "bytes", f"The file unpacks to {size:,} bytes; send it in parts.")


def written(answers: pd.DataFrame, ending: str) -> bytes:
    """The answers as a file."""
    if ending == ".arrows":
        import pyarrow

        table = pyarrow.Table.from_pandas(answers, preserve_index=False)
        sink = io.BytesIO()
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return sink.getvalue()
    with tempfile.TemporaryDirectory(prefix="polytask-") as folder:
        path = Path(folder) / f"answers{ending}"
        write_table(answers, path)
        return path.read_bytes()
