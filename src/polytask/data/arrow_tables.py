"""Tables of Arrow: Parquet and Feather files, and the frames of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from polytask.data.table import Table, check_names
from polytask.errors import DataError, MissingExtraError

__all__ = ["ParquetTable", "open_feather", "open_foreign", "pyarrow_for"]


class _NarwhalsTable(Table):
    """Polars, pyarrow and whatever else narwhals knows."""

    def __init__(self, frame: Any, origin: str):
        super().__init__([str(name) for name in frame.columns], origin)
        self._frame = frame

    def __len__(self) -> int:
        return len(self._frame)

    def column(self, name: str) -> pd.Series[Any]:
        try:
            series: pd.Series[Any] = self._frame[name].to_pandas()
        except ImportError as error:
            raise MissingExtraError(f"reading {self.origin}", "pyarrow", "parquet") from error
        return _dates_of_arrow(series.reset_index(drop=True))


class ParquetTable(Table):
    """A Parquet file; one column is decoded at a time."""

    def __init__(self, path: Path):
        self._arrow = pyarrow_for(path)
        import pyarrow.parquet as parquet

        try:
            self._file = parquet.ParquetFile(path)
        except (self._arrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error
        schema = self._file.schema_arrow
        super().__init__([name for name in schema.names if not name.startswith("__index_level_")], str(path))

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._file.metadata.num_rows)

    def column(self, name: str) -> pd.Series[Any]:
        """One column.

        Raises:
            DataError: If it is damaged.
        """
        try:
            read = self._file.read(columns=[name]).column(name)
        except (self._arrow.ArrowException, OSError) as error:
            raise DataError(f"{self.origin}: column {name!r} cannot be read: {error}") from error
        series: pd.Series[Any] = read.to_pandas(date_as_object=False)
        del read
        self._arrow.default_memory_pool().release_unused()
        return series


def open_feather(path: Path) -> Table:
    """A Feather or Arrow file, mapped into memory.

    Raises:
        DataError: If it is damaged, or two columns have the same name.
        MissingExtraError: If pyarrow is not installed.
    """
    arrow = pyarrow_for(path)
    import narwhals
    from pyarrow import feather

    try:
        table = feather.read_table(path, memory_map=True)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a Feather or Arrow file that can be read: {error}") from error
    check_names(table.column_names, str(path))
    return _NarwhalsTable(narwhals.from_native(table, eager_only=True), str(path))


def open_foreign(data: Any) -> Table:
    """A table of another library: polars, pyarrow, or what else narwhals knows.

    Raises:
        DataError: If it is none, or two columns have the same name.
    """
    import narwhals
    from narwhals.exceptions import DuplicateError

    origin = f"The {type(data).__module__.partition('.')[0]} table"
    try:
        return _NarwhalsTable(narwhals.from_native(data, eager_only=True), origin)
    except DuplicateError as error:
        raise DataError(f"{origin} has two columns of the same name: {error}") from error
    except TypeError as error:
        raise DataError(
            f"A table is needed, got {type(data).__name__}. Give a path, a pandas, polars or pyarrow table "
            "(collect a lazy one first), a dict of arrays or a 2-D array."
        ) from error


def _dates_of_arrow(series: pd.Series[Any]) -> pd.Series[Any]:
    """Arrow's days without time arrive as Python dates; make them datetimes."""
    if series.dtype == object and pd.api.types.infer_dtype(series, skipna=True) == "date":
        return pd.to_datetime(series)
    return series


def pyarrow_for(path: Path) -> Any:
    """The package that reads the file.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(f"reading {path.name}", "pyarrow", "parquet") from error
    return pyarrow
