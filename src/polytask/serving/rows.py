"""Rows as JSON has them to columns as a bundle reads them, each cell checked on its own.

The rows of several clients go through the model together, so a cell that cannot be used has to be found before that,
and a column must look the same whatever the others sent: numbers as float64, dates as datetimes, categories as texts.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from polytask.bundle import Bundle, Network, Pooled
from polytask.data.checked import CheckedRows
from polytask.data.columns import CategoricalColumn, NumericColumn
from polytask.data.files import Files
from polytask.data.image_features import ImageColumn
from polytask.data.kinds import Kind
from polytask.data.learning import BitsColumn
from polytask.data.molecules import MoleculeColumn
from polytask.data.text import words_of
from polytask.data.word_bits import WordsColumn
from polytask.errors import InputError, UnknownNameError
from polytask.models.inputs import SINGLE, InputShape
from polytask.serving.cells import FORMS

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
        kind: ``numeric``, ``boolean``, ``categorical``, ``date``, ``molecule``, ``words``, ``image`` or ``sound``.
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
        for transform in bundle.transforms_of(source):
            columns = {**transform.read, **transform.read_as_bits, **columns}
        self.source = source
        self.columns = tuple(RowColumn.of(column) for column in columns.values())
        if not self.columns and (cell := bundle.column(source)) is not None:
            self.columns = (_one_column(bundle, source, cell),)
        self.shape = None if self.columns else _shape(bundle, source)

    def read(self, rows: Sequence[Any], until: float = math.inf) -> dict[str, np.ndarray]:
        """Columns of the rows.

        Args:
            rows: The rows as JSON has them.
            until: Time of :func:`time.monotonic` at which nobody waits for them any longer.

        Raises:
            CellError: If a row lacks a column, or a cell is not of the column's kind; names both.
            TimeoutError: If images or the like were still to be looked at by then.
        """
        if not self.columns:
            return self._arrays(rows)
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise CellError(f"a row is an object with a value for each column, got {_shown(row)}.", None, i)
        return {column.name: self._column(column, rows, until) for column in self.columns}

    def ignored(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Keys of the rows that are no column that is read, in the order in which they come."""
        known = {column.name for column in self.columns}
        return [str(key) for key in dict.fromkeys(itertools.chain.from_iterable(rows)) if key not in known]

    def _column(self, column: RowColumn, rows: Sequence[Mapping[str, Any]], until: float) -> np.ndarray:
        name, form = column.name, FORMS[column.kind]
        cells = []
        for i, row in enumerate(rows):
            if name not in row:
                near = UnknownNameError.nearest(name, [str(key) for key in row])
                hint = f" Did you mean it by {near!r}?" if near else ""
                null = "" if column.is_needed else "; give null where the value is missing"
                raise CellError(f"the column is not there{null}.{hint}", name, i)
            value = row[name]
            try:
                cells.append(form.empty if value is None or value != value else form.read(value))
                if column.is_needed and cells[-1] is None:
                    raise ValueError
                if column.check is not None and cells[-1] is not None:
                    if time.monotonic() > until:
                        raise TimeoutError
                    column.check(cells[-1])
            except (ValueError, TypeError, OverflowError, KeyError):
                wanted = form.wanted + ("" if column.is_needed else " or null")
                raise CellError(f"{wanted} is needed, got {_shown(value)}.", name, i) from None
        array = np.empty(len(cells), dtype=form.dtype)
        array[:] = cells
        return array

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
