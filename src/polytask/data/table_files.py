"""Files that hold tables: which format one has, how texts are read, and writing them."""

from __future__ import annotations

import contextlib
import csv
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.data.arrow_tables import pyarrow_for
from polytask.data.table import check_names
from polytask.errors import DataError
from polytask.storage import whole_file

__all__ = ["MISSING", "file_kind", "not_utf8", "text_errors", "text_options", "write_table"]

_TEXT = {".csv": ",", ".tsv": "\t", ".data": ",", ".test": ",", ".txt": ","}
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
_PARQUET = {".parquet", ".pq"}
_ARROW = {".feather", ".arrow", ".ipc"}
_LINES = {".jsonl", ".ndjson"}

MISSING = ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
           "NA", "NULL", "NaN", "None", "n/a", "nan", "null")  # fmt: skip
"""Texts that pandas reads as missing, which must be named to read single columns in another way."""


def file_kind(path: Path) -> str:
    """The format of a file: ``parquet``, ``arrow``, ``text``, or ``lines`` of JSON.

    Raises:
        DataError: If there is no such file, it is empty, or its extension is not known.
    """
    if not path.exists():
        raise DataError(
            f"No file named {str(path)!r}. Give the path of a table (CSV, TSV, JSON lines, Parquet, Feather, Arrow)."
        )
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
    if ending in _LINES:
        return "lines"
    known = ", ".join(sorted([*_TEXT, *_LINES, *_PARQUET, *_ARROW]))
    raise DataError(
        f"{path} has the extension {ending!r}, which is no known table format. Known: {known} (text also .gz)."
    )


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in _COMPRESSED else (suffixes or [""])[-1]


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
    if separator is None:
        _check_separator(path, first, sep)
    names = [str(name).strip() for name in first] if header else [f"x{i}" for i in range(len(first))]
    if header:
        check_names(names, str(path))
    parsing = {"na_values": list(missing), "low_memory": False, "index_col": False}
    return {**common, **parsing, "header": 0 if header else None, "names": names}


def _check_separator(path: Path, first: list[str], separator: str) -> None:
    """Raise if the first line is one cell that another separator divides."""
    other = next((sign for sign in (";", "\t", ",", "|") if len(first) == 1 and sign in str(first[0])), None)
    if other is not None:
        raise DataError(
            f"{path} is read as separated by {separator!r}, but looks separated by {other!r}. Save it as .csv with "
            "commas between columns and points in numbers, or as .tsv with tabs; or in Python open it by "
            f"polytask.data.read_table(path, separator={other!r})."
        )


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
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except (EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def not_utf8(path: Path, error: UnicodeDecodeError) -> DataError:
    """The error for a text file in another encoding."""
    return DataError(
        f"{path} cannot be read as text in UTF-8 (byte 0x{error.object[error.start]:02x} is none). Save it as UTF-8."
    )


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
        pyarrow_for(target)
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
