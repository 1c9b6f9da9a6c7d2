"""Rows as JSON has them to columns as a bundle reads them, each cell checked on its own.

The rows of several clients go through the model together, so a cell that cannot be used has to be found before that,
and a column must look the same whatever the others sent: numbers as float64, dates as datetimes, categories as texts.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from polytask.bundle import Bundle, Network, Pooled
from polytask.data.cells import category_keys
from polytask.data.checked import CheckedRows
from polytask.data.columns import CategoricalColumn, Kind, NumericColumn
from polytask.data.files import Files
from polytask.data.image_features import ImageColumn
from polytask.data.molecules import MoleculeColumn
from polytask.data.text import words_of
from polytask.data.transform import BitsColumn
from polytask.data.word_bits import WordsColumn
from polytask.errors import InputError
from polytask.models.inputs import SINGLE, InputShape

__all__ = ["CellError", "Columns", "RowColumn", "RowReader"]

Columns: TypeAlias = Mapping[str, np.ndarray]
"""Rows as arrays by column (of a table) or by field (of arrays); the same length everywhere."""


class CellError(InputError):
    """A cell that cannot be used.

    Args:
        message: What is wrong.
        column: The column's name.
        row: Position of the row in the request, from 0.
    """

    def __init__(self, message: str, column: str | None, row: int):
        super().__init__(f"Row {row}" + (f", column {column!r}: " if column is not None else ": ") + message, column)
        self.row = row


@dataclass(frozen=True)
class RowColumn:
    """A column that a row needs.

    Args:
        name: Its name.
        kind: ``numeric``, ``boolean``, ``categorical``, ``date``, ``molecule``, ``words`` or ``image``.
        typical: A usual value: the median, or the first category.
        choices: The categories known from training.
        check: Raises a ``ValueError`` for texts that the model cannot read: no molecules, no images.
        is_needed: Whether it is all that is read, so that no cell of it may be missing.
    """

    name: str
    kind: Kind
    typical: Any = None
    choices: tuple[str, ...] = ()
    check: Callable[[str], object] | None = dataclasses.field(default=None, repr=False, compare=False)
    is_needed: bool = False

    @classmethod
    def of(cls, column: NumericColumn | CategoricalColumn | BitsColumn) -> RowColumn:
        """The column as a transform learned it."""
        if isinstance(column, WordsColumn):
            return cls(column.name, "words", "")
        if isinstance(column, MoleculeColumn | ImageColumn):
            kind: Kind = "image" if isinstance(column, ImageColumn) else "molecule"
            return cls(column.name, kind, None, check=column.check)
        if isinstance(column, CategoricalColumn):
            return cls(column.name, "categorical", next(iter(column.categories), None), column.categories)
        if column.kind == "boolean":
            return cls(column.name, "boolean", True)
        if column.kind == "date":
            days = column.medians.get("timestamp")
            return cls(column.name, "date", None if days is None else str(np.datetime64(int(days), "D")))
        return cls(column.name, "numeric", column.medians.get(""))


class RowReader:
    """Reads the rows of one source.

    Args:
        bundle: The bundle.
        source: The source's name.
    """

    def __init__(self, bundle: Bundle, source: str):
        columns: dict[str, NumericColumn | CategoricalColumn | BitsColumn] = {}
        for name, transform in bundle.transforms.items():
            if name == source or name.startswith(f"{source} ("):
                columns = {**transform.read, **transform.read_as_bits, **columns}
        self.source = source
        self.columns = tuple(RowColumn.of(column) for column in columns.values())
        if not self.columns and (cell := bundle.column(source)) is not None:
            self.columns = (_one_column(bundle, source, cell),)
        self.shape = None if self.columns else _shape(bundle, source)

    def read(self, rows: Sequence[Any]) -> dict[str, np.ndarray]:
        """Columns of the rows.

        Raises:
            CellError: If a row lacks a column, or a cell is not of the column's kind; names both.
        """
        if not self.columns:
            return self._arrays(rows)
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise CellError(f"a row is an object with a value for each column, got {_shown(row)}.", None, i)
        return {column.name: self._column(column, rows) for column in self.columns}

    def _column(self, column: RowColumn, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        read, name, empty = _READERS[column.kind], column.name, _EMPTY[column.kind]
        cells = []
        for i, row in enumerate(rows):
            if name not in row:
                near = difflib.get_close_matches(name, [str(key) for key in row], n=1)
                hint = f" Did you mean it by {near[0]!r}?" if near else ""
                null = "" if column.is_needed else "; give null where the value is missing"
                raise CellError(f"the column is not there{null}.{hint}", name, i)
            value = row[name]
            try:
                cells.append(empty if value is None or value != value else read(value))
                if column.is_needed and cells[-1] is None:
                    raise ValueError
                if column.check is not None and cells[-1] is not None:
                    column.check(cells[-1])
            except (ValueError, TypeError, OverflowError, KeyError):
                wanted = _WANTED[column.kind] + ("" if column.is_needed else " or null")
                raise CellError(f"{wanted} is needed, got {_shown(value)}.", name, i) from None
        made = np.empty(len(cells), dtype=_TYPES[column.kind])
        made[:] = cells
        return made

    def _arrays(self, rows: Sequence[Any]) -> dict[str, np.ndarray]:
        fields = {} if self.shape is None else self.shape.fields
        found: dict[str, np.ndarray] = {}
        for name, field in fields.items():
            cells = np.empty((len(rows), *field.shape), dtype=np.int64 if field.cardinalities else np.float32)
            for i, row in enumerate(rows):
                where = None if list(fields) == [SINGLE] else name
                try:
                    given = np.asarray(row if where is None else row[name])
                except (KeyError, TypeError, IndexError, ValueError, OverflowError):
                    raise CellError(f"numbers of shape {field.shape} are needed.", where, i) from None
                if given.shape != field.shape or given.dtype.kind not in "iuf":
                    got = given.shape if given.dtype.kind in "iuf" else _shown(row)
                    raise CellError(f"numbers of shape {field.shape} are needed, got {got}.", where, i)
                with np.errstate(over="ignore", invalid="ignore"):
                    cells[i] = given
                counts = np.array(field.cardinalities)
                if not np.isfinite(cells[i]).all() or (len(counts) and not ((given >= 0) & (given < counts)).all()):
                    raise CellError("finite numbers are needed; codes from 0 to those that training had.", where, i)
            found[name] = cells
        return found

    def data(self, columns: Columns) -> Any:
        """The columns as :meth:`Bundle.predict` takes them."""
        if self.columns:
            return CheckedRows(columns, "The request")
        return columns[SINGLE] if list(columns) == [SINGLE] else dict(columns)


def _one_column(bundle: Bundle, source: str, name: str) -> RowColumn:
    """The column of texts or files of a source that has no other."""
    if source in bundle.texts:
        return RowColumn(name, "words", "A text.", check=lambda cell: words_of([cell]), is_needed=True)
    file = bundle.files[source]
    kind: Kind = "image" if file.form == "pixels" else "sound"
    typical = f"data:{'image/png' if kind == 'image' else 'audio/wav'};base64,..."
    return RowColumn(name, kind, typical, check=lambda cell: file.check(Files(None), cell), is_needed=True)


def _shape(bundle: Bundle, source: str) -> InputShape | None:
    for model in bundle.models:
        network = model.network if isinstance(model, Pooled) else model
        if isinstance(network, Network) and source in network.sources:
            return network.spec.inputs[source]
    raise InputError(f"Rows of {source!r} are arrays of a shape that this bundle does not tell; it cannot be served.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _number(value: Any) -> float:
    if isinstance(value, str):
        if "_" in value:  # Python's own way of writing numbers, and nobody else's
            raise ValueError
        value = value.strip()
    elif not isinstance(value, bool | int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _truth(value: Any) -> float:
    if not isinstance(value, bool | int | float | str):
        raise TypeError
    return _TRUTHS[category_keys([value])[0].casefold()]


_TRUTHS = {"true": 1.0, "1": 1.0, "false": 0.0, "0": 0.0}


def _category(value: Any) -> str:
    if not isinstance(value, bool | int | float | str):
        raise TypeError
    return category_keys([value])[0]


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        raise TypeError
    return value.strip() or None


def _inline_image(value: Any) -> str | None:
    return _inline(value, "data:image/")


def _inline_sound(value: Any) -> str | None:
    return _inline(value, "data:audio/")


def _inline(value: Any, begins: str) -> str | None:
    text = _text(value)
    if text is not None and not text.startswith(begins):
        raise ValueError  # no path that somebody sends is opened
    return text


def _date(value: Any) -> np.datetime64:
    if not isinstance(value, str):
        raise TypeError
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas guesses the format, as it does for tables
            parsed = pd.to_datetime([value], errors="coerce", format="mixed", utc=True)
        if pd.isna(parsed[0]):
            raise ValueError from None
        moment = parsed[0].to_pydatetime()
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "s")


_READERS: dict[Kind, Callable[[Any], Any]] = {
    "numeric": _number,
    "boolean": _truth,
    "categorical": _category,
    "date": _date,
    "molecule": _text,
    "words": _text,
    "image": _inline_image,
    "sound": _inline_sound,
}
_EMPTY: dict[Kind, Any] = {
    "numeric": math.nan,
    "boolean": math.nan,
    "categorical": None,
    "date": np.datetime64("NaT", "s"),
    "molecule": None,
    "words": None,
    "image": None,
    "sound": None,
}
_TYPES: dict[Kind, Any] = {
    "numeric": np.float64,
    "boolean": np.float64,
    "categorical": object,
    "date": "datetime64[s]",
    "molecule": object,
    "words": object,
    "image": object,
    "sound": object,
}
_WANTED: dict[Kind, str] = {
    "numeric": "a finite number",
    "boolean": "true, false",
    "categorical": "a text",
    "date": "a date such as 2024-01-31",
    "molecule": "a molecule as SMILES",
    "words": "a text",
    "image": "an image of the size of training, as data:image/png;base64,...,",
    "sound": "a WAV file, as data:audio/wav;base64,...,",
}
