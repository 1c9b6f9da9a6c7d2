"""Columns of a table to the tensors that a table encoder reads."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from polytask.data.columns import SCALINGS, CategoricalColumn, NumericColumn, Scaling
from polytask.data.kinds import KINDS, Kind
from polytask.data.learning import (
    BITS_COLUMNS,
    NUMBERS_OF_ROWS,
    BitsColumn,
    LearningOptions,
    learn_column,
    look_like_identifiers,
)
from polytask.data.table import matched_columns
from polytask.data.tables import Table, TableLike, open_table
from polytask.data.thumbnails import located
from polytask.errors import InputError, RecipeError, UnknownNameError
from polytask.shapes import Tensor

__all__ = ["TableTransform"]


class TableTransform:
    """Turns the input columns of a table into tensors, in the way that was learned from the training rows.

    Numbers are scaled; a missing one becomes 0 after scaling, and a further 0/1 number says so if values were missing
    in training; if none was, a missing value at prediction is replaced by the training median, and counted in the
    notes. Booleans become -1 and 1. Dates become their timestamp, year, month, day of week, sine and cosine of the
    day of the year, and hour. Categories become codes: 0 missing, 1 rare or never seen, known ones from 2 on.
    Columns that say nothing are left out with a note: constant ones, empty ones, and texts that are nearly all
    different (names, identifiers, free text), unless their kind is given as categorical, words, molecule or image.
    Molecules (SMILES) become bits of a fingerprint, images (their files) components of their pixels.

    Args:
        columns: Names of the input columns; all if ``None``.
        kinds: Kind of single columns, where the inferred one is not wanted: ``numeric``, ``boolean``,
            ``categorical``, ``date``, ``molecule``, ``words`` (free text as the words that it holds), ``image``
            (paths of files, from the table's folder on), or ``hashed``: identifiers, such as users and items, of which
            the frequent ones have codes of their own, and all others, also those never seen, share codes by a hash.
        scaling: ``standard`` (mean and standard deviation), ``robust`` (median and interquartile range) or
            ``quantile`` (normal scores).
        min_count: A category that is rarer than this in training counts as rare.
        max_categories: Of one column; the rarest beyond count as rare.
        buckets: Codes that the rare and unseen values of a hashed column share.

    Shape:
        :meth:`transform` gives ``{"numeric": float32 [N, n_numeric], "molecule": float32 [N, n_bits], "categorical":
        int64 [N, len(cardinalities)]}``, without those that have no columns.

    Example:
        >>> table = {"age": [30.0, 50.0, None], "town": ["Bern", "Bern", "Graz"], "id": [7, 7, 7]}
        >>> transform = TableTransform().fit(table)
        >>> transform.numeric_names, transform.cardinalities
        (('age', 'age (missing)'), {'town': 3})
        >>> transform.transform({"age": [40.0], "town": ["Rome"], "id": [1]})
        {'numeric': tensor([[0., 0.]]), 'categorical': tensor([[1]])}
        >>> transform.notes
        ["Column 'id' is left out: it has one value only in the training rows."]

    Note:
        Columns are read one at a time, twice in all (to learn and to transform), straight into the tensors: beside
        them, no more than a few columns are in memory if the table itself is a Parquet file.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        *,
        kinds: Mapping[str, Kind] | None = None,
        scaling: Scaling = "standard",
        min_count: int = 2,
        max_categories: int = 1000,
        buckets: int = 1000,
    ):
        self.columns = None if columns is None else tuple(columns)
        self.kinds = dict(kinds or {})
        self.scaling = scaling
        self.min_count = min_count
        self.max_categories = max_categories
        self.buckets = buckets
        if scaling not in SCALINGS:
            raise UnknownNameError("scaling", scaling, SCALINGS)
        for kind in self.kinds.values():
            if kind not in KINDS:
                raise UnknownNameError("column kind", kind, KINDS)
        if min_count < 1 or max_categories < 1 or buckets < 1:
            raise RecipeError(
                f"min_count, max_categories and buckets need to be at least 1, got {min_count}, {max_categories} and "
                f"{buckets}."
            )
        self._names: tuple[str, ...] = ()
        self._numeric: list[NumericColumn] = []
        self._molecules: list[BitsColumn] = []
        self._categorical: list[CategoricalColumn] = []
        self.notes: list[str] = []
        """What :meth:`fit` has to say about columns that it left out."""

    @property
    def is_fitted(self) -> bool:
        """Whether :meth:`fit` or :meth:`load_state` was called."""
        return bool(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """The input columns that were given, those left out included."""
        return self._names

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """Names of the columns of the ``numeric`` tensor."""
        return tuple(name for column in self._numeric for name in column.features)

    @property
    def n_numeric(self) -> int:
        """Width of the ``numeric`` tensor."""
        return len(self.numeric_names)

    @property
    def n_bits(self) -> int:
        """Width of the ``molecule`` tensor."""
        return sum(len(column.bits) for column in self._molecules)

    @property
    def cardinalities(self) -> dict[str, int]:
        """Number of codes of each categorical column, in the order of the ``categorical`` tensor."""
        return {column.name: column.cardinality for column in self._categorical}

    @property
    def read(self) -> dict[str, NumericColumn | CategoricalColumn]:
        """The columns that are read, as they were learned, by name; those that were left out are not among them."""
        columns: list[NumericColumn | CategoricalColumn] = [*self._numeric, *self._categorical]
        return {column.name: column for column in columns}

    @property
    def read_as_bits(self) -> dict[str, BitsColumn]:
        """Molecules, free texts and images that are read, by name."""
        return {column.name: column for column in self._molecules}

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        molecules = [column.name for column in self._molecules]
        return (*(c.name for c in self._numeric), *molecules, *(c.name for c in self._categorical))

    @property
    def used(self) -> tuple[str, ...]:
        """The input columns without those left out, in the order in which they were given."""
        kept = set(self.needed)
        return tuple(name for name in self._names if name in kept)

    def fit(self, data: TableLike, rows: np.ndarray | None = None) -> Self:
        """Learn from the training rows.

        Args:
            data: Anything that :func:`~polytask.data.tables.open_table` opens.
            rows: Positions of the training rows; all if ``None``.

        Raises:
            InputError: If a column is missing, holds what its kind cannot be, or an infinite number, or if no column
                is left.
        """
        table = open_table(data)
        names = table.names if self.columns is None else self.columns
        for name in (*names, *self.kinds):
            if name not in table:
                raise InputError(str(UnknownNameError("input column", name, table.names)))
        options = LearningOptions(self.scaling, self.min_count, self.max_categories, self.buckets)
        numeric: list[NumericColumn] = []
        molecules: list[BitsColumn] = []
        categorical: list[CategoricalColumn] = []
        notes: list[str] = []
        for name in names:
            values = self._cells(table, name, name, rows)
            learned = learn_column(name, values, self.kinds.get(name), options)
            if isinstance(learned, str):
                notes.append(f"Column {name!r} is left out: {learned}.")
            elif isinstance(learned, NumericColumn):
                numeric.append(learned)
                if name not in self.kinds and look_like_identifiers(values):
                    notes.append(NUMBERS_OF_ROWS.format(name=name, quoted=shlex.quote(name)))
            elif isinstance(learned, CategoricalColumn):
                categorical.append(learned)
            else:
                molecules.append(learned)
        if not numeric and not molecules and not categorical:
            raise InputError("No input column is left. " + " ".join(notes))
        self._names, self.notes = tuple(names), notes
        self._numeric, self._molecules, self._categorical = numeric, molecules, categorical
        return self

    def transform(
        self, data: TableLike, rows: np.ndarray | None = None, notes: list[str] | None = None
    ) -> dict[str, Tensor]:
        """The tensors of the given rows.

        Args:
            data: Anything that :func:`~polytask.data.tables.open_table` opens; an array without column names must
                have as many columns as there were in training.
            rows: Positions of the rows; all if ``None``.
            notes: A list to which notes on imputed values are added.

        Raises:
            InputError: If a column is missing, their number is not that of training, or a value is infinite or not of
                the column's kind; the message names the column and the row.
        """
        if not self.is_fitted:
            raise InputError("The table transform needs to be fitted before it can transform.")
        table = open_table(data)
        found = matched_columns(table, self._names, self.needed)
        n_rows = len(table) if rows is None else len(rows)
        tensors: dict[str, Tensor] = {}
        if self._numeric:
            numeric = np.empty((n_rows, self.n_numeric), dtype=np.float32)
            start = 0
            for column in self._numeric:
                stop = start + len(column.features)
                n_imputed = column.encode(_rows_of(table.cells(found[column.name]), rows), numeric[:, start:stop])
                start = stop
                if n_imputed and notes is not None:
                    notes.append(f"Column {column.name!r}: {n_imputed} missing replaced by the training median.")
            tensors["numeric"] = torch.from_numpy(numeric)
        if self._molecules:
            bits = np.empty((n_rows, self.n_bits), dtype=np.float32)
            stops = np.cumsum([0, *(len(column.bits) for column in self._molecules)])
            for molecule, start, stop in zip(self._molecules, stops, stops[1:], strict=False):
                molecule.encode(self._cells(table, molecule.name, found[molecule.name], rows), bits[:, start:stop])
            tensors["molecule"] = torch.from_numpy(bits)
        if self._categorical:
            codes = np.empty((n_rows, len(self._categorical)), dtype=np.int64)
            for j, categorical in enumerate(self._categorical):
                categorical.encode(_rows_of(table.cells(found[categorical.name]), rows), codes[:, j])
            tensors["categorical"] = torch.from_numpy(codes)
        return tensors

    def _cells(self, table: Table, name: str, found: str, rows: np.ndarray | None) -> pd.Series[Any]:
        """A column whose cells are texts, paths as seen from here."""
        values = _rows_of(table.column(found), rows)
        return located(name, values, table.folder) if self.kinds.get(name) == "image" else values

    def fit_transform(self, data: TableLike, rows: np.ndarray | None = None) -> dict[str, Tensor]:
        """:meth:`fit` and :meth:`transform` on the same rows."""
        return self.fit(data, rows).transform(data, rows)

    def positions(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Where the tensors of :meth:`transform` hold the given input columns; columns left out have no place.

        Example:
            >>> table = {"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"], "c": [1.0, None, 2.0]}
            >>> transform = TableTransform().fit(table)
            >>> transform.positions(["b", "c"])
            {'numeric': (1, 2), 'categorical': (0,)}
        """
        owners = [column.name for column in self._numeric for _ in column.features]
        places = {
            "numeric": tuple(i for i, owner in enumerate(owners) if owner in names),
            "categorical": tuple(i for i, column in enumerate(self._categorical) if column.name in names),
        }
        if self._molecules:
            atoms = [column.name for column in self._molecules for _ in column.bits]
            places["molecule"] = tuple(i for i, owner in enumerate(atoms) if owner in names)
        return places

    def state(self) -> dict[str, Any]:
        """Options and all that was learned, as JSON can hold it."""
        return {
            "columns": None if self.columns is None else list(self.columns),
            "kinds": self.kinds,
            "scaling": self.scaling,
            "min_count": self.min_count,
            "max_categories": self.max_categories,
            "buckets": self.buckets,
            "names": list(self._names),
            "numeric": [column.state() for column in self._numeric],
            "molecules": [column.state() for column in self._molecules],
            "categorical": [column.state() for column in self._categorical],
            "notes": list(self.notes),
        }

    def load_state(self, state: Mapping[str, Any]) -> Self:
        """Take back what :meth:`state` gave, options included."""
        self.columns = None if state["columns"] is None else tuple(state["columns"])
        self.kinds = dict(state["kinds"])
        self.scaling = state["scaling"]
        self.min_count = state["min_count"]
        self.max_categories = state["max_categories"]
        self.buckets = state.get("buckets", 1000)  # bundles from before there were hashed columns have none
        self._names = tuple(state["names"])
        self._numeric = [NumericColumn.from_state(column) for column in state["numeric"]]
        # Bundles from before there were molecules have none.
        self._molecules = [
            BITS_COLUMNS[column.get("kind", "molecule")].from_state(column) for column in state.get("molecules", ())
        ]
        self._categorical = [CategoricalColumn.from_state(column) for column in state["categorical"]]
        self.notes = list(state["notes"])
        return self


def _rows_of(values: Any, rows: np.ndarray | None) -> Any:
    """The rows, which keep their numbers in the table as index, for messages."""
    if rows is None:
        return values
    return values[rows] if isinstance(values, np.ndarray) else values.iloc[rows]
