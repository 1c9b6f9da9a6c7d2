"""Tables as JSON lines: an object a line, whose keys are the columns."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from polytask.data.table_files import not_utf8
from polytask.errors import DataError

__all__ = ["frames_of_lines", "keys_of_lines", "object_of"]


def frames_of_lines(path: Path, n_rows: int | None = None) -> Iterator[pd.DataFrame]:
    """The rows in pieces of so many; a key that an object lacks is a missing value.

    Args:
        path: The file, in UTF-8; empty lines are passed over.
        n_rows: Rows of a piece; all of them in one if ``None``.

    Raises:
        DataError: If a line holds no object; names the row.
    """
    objects = _objects(path)
    while piece := list(itertools.islice(objects, n_rows)):
        yield pd.DataFrame(piece)


def keys_of_lines(path: Path) -> list[str]:
    """All keys of a file's objects in the order in which they come: a piece of it may lack some.

    Raises:
        DataError: If a line holds no object; names the row.
    """
    return list(dict.fromkeys(itertools.chain.from_iterable(_objects(path))))


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from (object_of(line, path, row) for row, line in enumerate(line for line in file if line.strip()))
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def object_of(line: str, path: Path, row: int) -> dict[str, Any]:
    """The object of a line.

    Raises:
        DataError: If it holds none.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, row {row} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise DataError(f'{path}, row {row} is no JSON object, such as {{"text": "..."}}.')
    return found
