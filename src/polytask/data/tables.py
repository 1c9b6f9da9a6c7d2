"""Any table, read column by column: files, data frames, arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.arrow_tables import ParquetTable, open_feather, open_foreign
from polytask.data.json_lines import frames_of_lines
from polytask.data.table import FrameTable, Table, TableLike
from polytask.data.table_files import file_kind, text_errors, text_options, write_table
from polytask.errors import DataError

__all__ = [
    "FrameTable",
    "Table",
    "TableLike",
    "file_kind",
    "open_table",
    "read_table",
    "text_errors",
    "text_options",
    "write_table",
]


def open_table(
    data: TableLike,
    *,
    header: bool = True,
    separator: str | None = None,
    missing: Sequence[str] = (),
    skip_rows: int = 0,
) -> Table:
    """Open a table without reading more of it than its format asks for.

    Parquet files are read column by column when the columns are asked for; text files are read at once.

    Args:
        data: Path of a CSV or TSV file (compressed too), JSON lines, Parquet, Feather or Arrow file; a pandas, polars
            or pyarrow table; a dict of arrays; a 2-D array, whose columns are then called ``x0``, ``x1`` ...
        header: Whether the first line of a text file has the names; else they are ``x0``, ``x1`` ...
        separator: Of a text file; by its extension if ``None``.
        missing: Further texts that mean missing in a text file, besides the empty one, NA, NaN, null and the like.
        skip_rows: Lines to skip at the start of a text file.

    Raises:
        DataError: If there is no such file, it is empty or damaged, its extension is not known, or two columns have
            the same name.
        MissingExtraError: If the format needs pyarrow and it is not installed.

    Example:
        >>> table = open_table({"age": [31, 40], "smokes": [True, None]})
        >>> table.names, len(table)
        (('age', 'smokes'), 2)
        >>> open_table(np.zeros((3, 2))).names
        ('x0', 'x1')
    """
    if isinstance(data, Table):
        table = data
    elif isinstance(data, (str, os.PathLike)):
        table = _open_file(Path(data), header, separator, missing, skip_rows)
        table.folder = Path(data).parent
    elif isinstance(data, pd.DataFrame):
        table = FrameTable(data, "The pandas table")
    elif isinstance(data, Mapping):
        table = FrameTable(_frame_of_arrays(data), "The dict of arrays")
    elif isinstance(data, (np.ndarray, list, tuple)) or type(data).__module__.partition(".")[0] == "torch":
        table = FrameTable(_frame_of_matrix(data), "The array", is_positional=True)
    else:
        table = open_foreign(data)
    if len(table) == 0:
        raise DataError(f"{table.origin} has no rows; at least one is needed.")
    return table


def read_table(data: TableLike, **options: Any) -> pd.DataFrame:
    """Read any table into a pandas data frame; the arguments and errors are those of :func:`open_table`.

    Example:
        >>> read_table({"a": [1.0, None]})["a"].isna().tolist()
        [False, True]
    """
    return open_table(data, **options).frame()


def _open_file(path: Path, header: bool, separator: str | None, missing: Sequence[str], skip_rows: int) -> Table:
    kind = file_kind(path)
    if kind == "parquet":
        return ParquetTable(path)
    if kind == "arrow":
        return open_feather(path)
    if kind == "lines":
        return FrameTable(next(frames_of_lines(path), pd.DataFrame({"": []})), str(path))
    with text_errors(path):
        options = text_options(path, header, separator, missing, skip_rows)
        return FrameTable(pd.read_csv(path, **options), str(path))


def _frame_of_arrays(arrays: Mapping[Any, Any]) -> pd.DataFrame:
    sizes = {str(name): np.shape(values) for name, values in arrays.items()}
    for name, shape in sizes.items():
        if len(shape) != 1:
            raise DataError(f"Column {name!r} needs one value a row, got an array of shape {shape}.")
    if len({shape[0] for shape in sizes.values()}) > 1:
        lengths = ", ".join(f"{name}: {shape[0]}" for name, shape in sizes.items())
        raise DataError(f"The columns need the same number of rows, got {lengths}.")
    return pd.DataFrame({name: pd.Series(values).reset_index(drop=True) for name, values in arrays.items()})


def _frame_of_matrix(data: Any) -> pd.DataFrame:
    matrix = np.asarray(data)
    if matrix.ndim != 2:
        raise DataError(f"An array used as a table needs two dimensions, rows and columns, got shape {matrix.shape}.")
    return pd.DataFrame(matrix, columns=[f"x{i}" for i in range(matrix.shape[1])], copy=False)
