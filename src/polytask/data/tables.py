"""Any table, read column by column: files, data frames, arrays."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from polytask.errors import DataError, MissingExtraError
from polytask.storage import whole_file

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

TableLike: TypeAlias = Any
"""A path, a pandas, polars or pyarrow table, a dict of arrays, a 2-D array, or a :class:`Table`."""

_TEXT = {".csv": ",", ".tsv": "\t", ".data": ",", ".test": ",", ".txt": ","}
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
_PARQUET = {".parquet", ".pq"}
_ARROW = {".feather", ".arrow", ".ipc"}


class Table(ABC):
    """Named columns that are read one at a time, so that a table larger than the tensors is never held whole.

    Args:
        names: The columns, in order.
        origin: What the table is called in messages.
        is_positional: Whether the columns have no names of their own, so that their number and order is what counts.
    """

    def __init__(self, names: Sequence[str], origin: str, is_positional: bool = False):
        self.names = tuple(names)
        self.origin = origin
        self.is_positional = is_positional
        self.folder: Path | None = Path()
        """Where relative paths in its cells start; ``None`` if others wrote them, so that no file may be opened."""
        check_names(self.names, origin)

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def column(self, name: str) -> pd.Series[Any]:
        """One column, indexed 0 to N - 1, with missing values as pandas marks them."""

    def cells(self, name: str) -> pd.Series[Any] | np.ndarray:
        """The same, or an array of cells that need no more reading, see :class:`~polytask.data.checked.CheckedRows`."""
        return self.column(name)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def frame(self) -> pd.DataFrame:
        """All columns in memory."""
        return pd.DataFrame({name: self.column(name) for name in self.names})


def check_names(names: Sequence[str], origin: str) -> None:
    """Raise if there is no column, or two have the same name.

    Raises:
        DataError: Naming the column.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{origin} has more than one column named {repeated[0]!r}; columns need names of their own. "
            "Rename one of them."
        )
    if not names:
        raise DataError(f"{origin} has no columns.")


class FrameTable(Table):
    """A pandas frame, or the rows of a longer one.

    Args:
        frame: The rows.
        origin: See :class:`Table`.
        is_positional: See :class:`Table`.
        first_row: Number of the first row in the longer table, for messages.
    """

    def __init__(self, frame: pd.DataFrame, origin: str, is_positional: bool = False, first_row: int = 0):
        super().__init__([str(name) for name in frame.columns], origin, is_positional)
        self._frame = frame
        self._index = pd.RangeIndex(first_row, first_row + len(frame))
        self._position = {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._frame)

    def column(self, name: str) -> pd.Series[Any]:
        """One column."""
        return self._frame.iloc[:, self._position[name]].set_axis(self._index)

    def frame(self) -> pd.DataFrame:
        """The frame with its columns' names as texts."""
        return self._frame.set_axis(list(self.names), axis=1)


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


class _ParquetTable(Table):
    """A Parquet file; one column is decoded at a time."""

    def __init__(self, path: Path):
        self._arrow = _pyarrow(path)
        import pyarrow.parquet as parquet

        try:
            self._file = parquet.ParquetFile(path)
        except (self._arrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error
        schema = self._file.schema_arrow
        super().__init__([name for name in schema.names if not name.startswith("__index_level_")], str(path))

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def column(self, name: str) -> pd.Series[Any]:
        try:
            read = self._file.read(columns=[name]).column(name)
        except (self._arrow.ArrowException, OSError) as error:
            raise DataError(f"{self.origin}: column {name!r} cannot be read: {error}") from error
        series: pd.Series[Any] = read.to_pandas(date_as_object=False)
        del read
        self._arrow.default_memory_pool().release_unused()
        return series


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
        data: Path of a CSV or TSV file (compressed too), Parquet, Feather or Arrow file; a pandas, polars or
            pyarrow table; a dict of arrays; a 2-D array, whose columns are then called ``x0``, ``x1`` ...
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
        table = _open_foreign(data)
    if len(table) == 0:
        raise DataError(f"{table.origin} has no rows.")
    return table


def read_table(data: TableLike, **options: Any) -> pd.DataFrame:
    """Read any table into a pandas data frame; the arguments and errors are those of :func:`open_table`.

    Example:
        >>> read_table({"a": [1.0, None]})["a"].isna().tolist()
        [False, True]
    """
    return open_table(data, **options).frame()


def file_kind(path: Path) -> str:
    """The format of a file: ``parquet``, ``arrow``, or ``text``.

    Raises:
        DataError: If there is no such file, it is empty, or its extension is not known.
    """
    if not path.exists():
        raise DataError(f"No file named {str(path)!r}. Give the path of a CSV, TSV, Parquet, Feather or Arrow file.")
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder; a table must be one file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    ending = _ending(path)
    if ending in _PARQUET:
        return "parquet"
    if ending in _ARROW:
        return "arrow"
    if ending in _TEXT:
        return "text"
    known = ", ".join(sorted([*_TEXT, *_PARQUET, *_ARROW]))
    raise DataError(
        f"{path} has the extension {ending!r}, which is no known table format. Known: {known} (text also .gz)."
    )


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in _COMPRESSED else (suffixes or [""])[-1]


def _open_file(path: Path, header: bool, separator: str | None, missing: Sequence[str], skip_rows: int) -> Table:
    kind = file_kind(path)
    if kind == "parquet":
        return _ParquetTable(path)
    if kind == "arrow":
        return _open_feather(path)
    with text_errors(path):
        options = text_options(path, header, separator, missing, skip_rows)
        return FrameTable(pd.read_csv(path, **options), str(path))


def text_options(
    path: Path,
    header: bool = True,
    separator: str | None = None,
    missing: Sequence[str] = (),
    skip_rows: int = 0,
) -> dict[str, Any]:
    """How pandas is to read a text file, the names of its columns among it."""
    sep = separator or _TEXT[_ending(path)]
    common: dict[str, Any] = {"sep": sep, "skiprows": skip_rows, "skipinitialspace": True}
    # The names are read on their own, because pandas renames the second of two equal ones without a word.
    first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, **common).iloc[0].tolist()
    names = [str(name).strip() for name in first] if header else [f"x{i}" for i in range(len(first))]
    if header:
        check_names(names, str(path))
    parsing = {"na_values": list(missing), "low_memory": False, "index_col": False}
    return {**common, **parsing, "header": 0 if header else None, "names": names}


@contextlib.contextmanager
def text_errors(path: Path) -> Iterator[None]:
    """What pandas has to say about a text file, as our errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the first loses values
            yield
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty.") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        raise DataError(f"{path} is not a table with the same columns in every row: {error}") from error
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def _open_feather(path: Path) -> Table:
    arrow = _pyarrow(path)
    import narwhals
    from pyarrow import feather

    try:
        table = feather.read_table(path, memory_map=True)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a Feather or Arrow file that can be read: {error}") from error
    check_names(table.column_names, str(path))
    return _NarwhalsTable(narwhals.from_native(table, eager_only=True), str(path))


def _open_foreign(data: Any) -> Table:
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


def _dates_of_arrow(series: pd.Series[Any]) -> pd.Series[Any]:
    """Arrow's days without time arrive as Python dates; make them datetimes."""
    if series.dtype == object and pd.api.types.infer_dtype(series, skipna=True) == "date":
        return pd.to_datetime(series)
    return series


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError(f"reading {path.name}", "pyarrow", "parquet") from error
    return pyarrow


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as CSV, TSV, Parquet or Arrow, by the ending of its name; whole or not at all.

    Raises:
        DataError: If the ending is not known.
        StorageError: If it cannot be written.
    """
    target = Path(path)
    writers: dict[str, Any] = {
        ".csv": lambda file: _flat(frame).to_csv(file, index=False),
        ".tsv": lambda file: _flat(frame).to_csv(file, index=False, sep="\t"),
        ".parquet": lambda file: frame.to_parquet(file, index=False),
        ".arrow": lambda file: frame.to_feather(file),
        ".feather": lambda file: frame.to_feather(file),
    }
    if target.suffix not in writers:
        raise DataError(f"Cannot write {target.name}: the ending must be one of {', '.join(writers)}.")
    if target.suffix in (".parquet", ".arrow", ".feather"):
        _pyarrow(target)
    with whole_file(target) as temporary:
        writers[target.suffix](temporary)


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with maps and lists of boxes as JSON, which a file of texts has no other place for."""
    changed = {}
    for name in frame.columns:
        values = frame[name]
        if values.dtype == object and values.map(lambda value: isinstance(value, list | tuple)).any():
            changed[name] = values.map(lambda value: json.dumps(value, default=str))
    return frame.assign(**changed) if changed else frame
