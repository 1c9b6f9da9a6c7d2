"""What a bundle is given for sources that read one column: cells, or whatever holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.decoding import FileTransform
from polytask.data.files import Files
from polytask.data.reads import FILE, Reads, is_of_files, listed
from polytask.data.streamed import StreamedSource
from polytask.data.table import Table
from polytask.data.tables import open_table
from polytask.data.text_rows import CellReader, HeldCells
from polytask.errors import InputError, UnknownNameError
from polytask.shapes import Tensor

__all__ = ["FileRows", "cells_of", "files_of"]


def cells_of(data: Any, column: str | None) -> Any:
    """The cells of a column, if a table is given; what is given, otherwise.

    Raises:
        InputError: If the table has no such column, or a row has no text there.
    """
    if column is None or not _is_table(data, column):
        return data
    table = open_table(data)
    return list(_filled(table, column, f"has no text in {column!r}"))


def _is_table(data: Any, column: str) -> bool:
    if isinstance(data, Table | pd.DataFrame | Mapping) or hasattr(data, "__dataframe__"):
        return True
    try:
        return isinstance(data, Path) or (isinstance(data, str) and Path(data).is_file())
    except (OSError, ValueError):  # no path has so many letters, or such
        return False


def _column(table: Table, column: str) -> np.ndarray:
    if column not in table:
        raise InputError(str(UnknownNameError(f"column of {table.origin}", column, table.names)), column)
    return np.asarray(table.cells(column), dtype=object)


def _filled(table: Table, column: str, lack: str) -> np.ndarray:
    """The cells of a column, none of which is missing; a piece of a longer table names its row in that."""
    cells = _column(table, column)
    missing = np.flatnonzero(
        pd.isna(cells) | np.array([isinstance(c, str) and not c.strip() for c in cells], dtype=bool)
    )
    if len(missing):
        row = table.column(column).index[missing[0]]
        raise InputError(f"Row {row} of {table.origin} {lack}: leave it out.", column)
    return cells


@dataclass(frozen=True)
class FileRows:
    """Files to be read for a model, a piece at a time.

    Args:
        files: Where they lie.
        names: Their names.
        transform: How they become tensors.
    """

    files: Files
    names: np.ndarray
    transform: FileTransform

    def source(self, name: str) -> StreamedSource:
        """The rows, of which nothing is read yet."""

        def decoded(names: Any, rows: np.ndarray) -> Tensor:
            return self.transform.decode(self.files, names)

        n_rows = len(self.names)
        reader = CellReader(HeldCells(self.names), decoded)
        return StreamedSource(name, {}, reader=reader, rows=np.arange(n_rows), window=n_rows)


def files_of(data: Any, transform: FileTransform) -> FileRows | None:
    """The files that are meant: a folder or archive, a table with their column, or names; ``None`` for arrays.

    Raises:
        InputError: If a row names no file, or a table has no such column.
    """
    if is_of_files(data):
        data, _ = listed(Path(data), Reads(form=transform.form))
    if isinstance(data, Table) and transform.column not in data and FILE in data:
        return FileRows(Files(data.folder), _column(data, FILE), transform)  # whatever it was called in training
    if _is_table(data, transform.column):
        table = open_table(data)
        names, files = _filled(table, transform.column, "names no file"), Files(table.folder)
    elif isinstance(data, list | tuple | np.ndarray) and len(data) and isinstance(data[0], str | Path):
        names, files = np.array([str(name) for name in data], dtype=object), Files(Path())
    else:
        return None
    return FileRows(files, names, transform)
