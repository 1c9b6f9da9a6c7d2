"""Reading the user's labels: which are missing, which numbers they are, which classes there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from polytask.errors import TargetError
from polytask.shapes import object_array

__all__ = [
    "Classes",
    "Label",
    "checked_order",
    "checked_smoothing",
    "column",
    "different",
    "distinct",
    "in_array",
    "in_row",
    "numbers",
    "shown",
]

Label: TypeAlias = "str | int | float | bool"
"""What names a class; keeps its Python type through JSON."""


def column(who: str, labels: Any) -> np.ndarray:
    """One column of labels as a flat array of a kind that can be a label.

    Raises:
        TargetError: If there are several columns, or dates, complex numbers or records.
    """
    flat = np.asarray(labels)
    if flat.ndim == 2 and flat.shape[1] == 1:
        flat = flat[:, 0]
    if flat.ndim != 1:
        raise TargetError(f"{who} needs one column of labels, got an array of shape {flat.shape}.")
    if flat.dtype.kind in "mMcV":
        raise TargetError(
            f"{who} needs text, numbers or booleans as labels, got {flat.dtype}. "
            "Turn dates and durations into numbers first, in a unit of your choice."
        )
    return flat.astype(object) if flat.dtype.kind in "SUT" else flat


def in_row(row: int) -> str:
    """Where a label is, for messages, if there is one a row."""
    return f"row {row}"


def in_array(shape: Sequence[int], rows: Sequence[int] | np.ndarray | None = None) -> Callable[[int], str]:
    """Where a number is, for messages, among those of rows that hold several each, as one flat array.

    Args:
        shape: Shape of all rows together.
        rows: Numbers of the rows in the data; from 0 on if ``None``.

    Example:
        >>> in_array((2, 3))(4), in_array((2, 2, 2), rows=[7, 9])(5)
        ('row 1, place 1', 'row 9, place 0, 1')
    """

    def where(position: int) -> str:
        row, *place = (int(index) for index in np.unravel_index(position, shape))
        number = row if rows is None else int(rows[row])
        return f"row {number}" + (f", place {', '.join(map(str, place))}" if place else "")

    return where


def distinct(who: str, labels: np.ndarray, where: Callable[[int], str] = in_row) -> tuple[np.ndarray, list[Label]]:
    """Each row's position among the different labels (-1 if missing or blank), and those labels as they appear.

    Args:
        who: For messages.
        labels: One column of them.
        where: For messages, what a position in the column is called.

    Raises:
        TargetError: If a label is infinite, or neither text nor a number nor a boolean.
    """
    codes, uniques = pd.factorize(column(who, labels))
    values = [value.item() if isinstance(value, np.generic) else value for value in uniques.tolist()]
    for position, value in enumerate(values):
        if not isinstance(value, str | int | float):
            place = where(_first(codes == position))
            raise TargetError(
                f"{who} needs text, numbers or booleans as labels, got {type(value).__name__} {value!r} in {place}."
            )
        if isinstance(value, float) and math.isinf(value):
            raise TargetError(f"{who} needs finite labels, got {value!r} in {where(_first(codes == position))}.")
    kept = [position for position, value in enumerate(values) if not (isinstance(value, str) and not value.strip())]
    position_of = np.full(len(values) + 1, -1)  # the last one is what code -1 picks
    position_of[kept] = np.arange(len(kept))
    return position_of[codes], [values[position] for position in kept]


def numbers(who: str, labels: Any, where: Callable[[int], str] = in_row) -> tuple[np.ndarray, np.ndarray]:
    """Labels as float64, NaN where missing, and which are observed; ``where`` as in :func:`distinct`.

    Text that spells a number counts as that number.

    Raises:
        TargetError: If a label is no number, or is infinite.
    """
    flat = column(who, labels)
    if flat.dtype.kind in "biuf":
        values = flat.astype(np.float64)
        observed = ~np.isnan(values)
    else:
        observed = ~(np.asarray(pd.isna(flat)) | np.array([isinstance(v, str) and not v.strip() for v in flat], bool))
        values = np.full(len(flat), np.nan)
        try:
            values[observed] = flat[observed].astype(np.float64)
        except (TypeError, ValueError):
            raise TargetError(_not_a_number(who, flat, observed, where)) from None
        if np.isnan(values[observed]).any():
            raise TargetError(_not_a_number(who, flat, observed, where))
    if np.isinf(values).any():
        first = _first(np.isinf(values))
        raise TargetError(f"{who} needs finite numbers as labels, got {values[first]} in {where(first)}.")
    return values, observed


def different(who: str, observed_values: np.ndarray, n_rows: int) -> np.ndarray:
    """The observed numbers, once it is sure that there is something to learn from them.

    Raises:
        TargetError: If none is observed, or all are equal.
    """
    if not len(observed_values):
        raise TargetError(_all_missing(who, n_rows))
    if (observed_values == observed_values[0]).all():
        raise TargetError(_one_only(who, "value", float(observed_values[0]), len(observed_values)))
    return observed_values


@dataclass(frozen=True)
class Classes:
    """The classes of a task in the order of their codes, and how often each was seen in training.

    Args:
        names: As the user wrote them.
        counts: Observed training labels of each class.
    """

    names: tuple[Label, ...]
    counts: tuple[int, ...]

    @classmethod
    def learn(
        cls, who: str, labels: np.ndarray, order: Sequence[Label] = (), where: Callable[[int], str] = in_row
    ) -> Classes:
        """Find the classes, sorted, or check that the labels are among those of ``order``.

        Args:
            who: For messages.
            labels: One column of them.
            order: The classes in the order of their codes; empty to find them.
            where: See :func:`distinct`.

        Raises:
            TargetError: If all labels are missing, there is one class only, or one is not in ``order``.
        """
        codes, values = distinct(who, labels, where)
        counts = np.bincount(codes[codes >= 0], minlength=len(values))
        seen = {value: int(n) for value, n in zip(values, counts, strict=True) if n}
        if not seen:
            raise TargetError(_all_missing(who, len(codes)))
        if len(seen) == 1:
            raise TargetError(_one_only(who, "class", next(iter(seen)), int(counts.sum())))
        names = tuple(order) or _sorted(seen)
        learned = cls(names, tuple(seen.get(name, 0) for name in names))
        if order:
            learned.encode(who, labels, where)
        return learned

    def __len__(self) -> int:
        return len(self.names)

    def encode(
        self, who: str, labels: np.ndarray, where: Callable[[int], str] = in_row
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each row's code (0 where missing) and which rows are observed; ``where`` as in :func:`distinct`.

        Raises:
            TargetError: If a label is none of the classes.
        """
        codes, values = distinct(who, labels, where)
        mapped = np.array([self._code.get(value, -1) for value in values] + [0], dtype=np.int64)
        encoded: np.ndarray = mapped[codes]
        observed = codes >= 0
        unknown = observed & (encoded < 0)
        if unknown.any():
            first = _first(unknown)
            raise TargetError(
                f"{who} knows no class {values[codes[first]]!r} ({where(first)}). Known from training: "
                f"{shown(self.names)}."
            )
        return np.where(observed, encoded, 0), observed

    def is_known(self, who: str, labels: np.ndarray) -> np.ndarray:
        """Which rows are missing or of one of the classes."""
        codes, values = distinct(who, labels)
        known: np.ndarray = np.array([value in self._code for value in values] + [True])[codes]
        return known

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The names of the classes with these codes."""
        taken: np.ndarray = self._array[codes]
        return taken

    @property
    def shares(self) -> np.ndarray:
        """Share of each class in training; add-one smoothed if a class was never seen, so that none is zero."""
        counts: np.ndarray = np.array(self.counts, dtype=np.float64)
        if not counts.all():
            counts += 1
        return np.asarray(counts / counts.sum())

    @cached_property
    def _code(self) -> dict[Label, int]:
        return {name: code for code, name in enumerate(self.names)}

    @cached_property
    def _array(self) -> np.ndarray:
        types = {type(name) for name in self.names}
        if len(types) == 1 and types <= {bool, float}:
            return np.array(self.names)
        if types == {int} and all(abs(int(name)) < 2**63 for name in self.names):
            return np.array(self.names, dtype=np.int64)
        return object_array(self.names)


def checked_smoothing(who: str, smoothing: float) -> float:
    """The label smoothing, once it is sure that it lies in [0, 1).

    Raises:
        TargetError: If it does not.
    """
    if not 0 <= smoothing < 1:
        raise TargetError(f"{who} needs label_smoothing in [0, 1), got {smoothing!r}.")
    return float(smoothing)


def checked_order(who: str, option: str, names: Sequence[Label]) -> tuple[Label, ...]:
    """The given classes as a tuple, once it is sure that there are none or at least two different ones.

    Raises:
        TargetError: If there is one only, or one is named twice.
    """
    given = tuple(name.item() if isinstance(name, np.generic) else name for name in names)
    if len(given) == 1 or len(set(given)) != len(given):
        raise TargetError(f"{who} needs at least two different {option}, got {shown(given)}.")
    return given


def shown(names: Sequence[Any], most: int = 20) -> str:
    """Names for a message, at most ``most`` of them."""
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + rest


def _sorted(values: Any) -> tuple[Label, ...]:
    # Text and numbers in one column cannot be compared; numbers come first then.
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))


def _first(mask: np.ndarray) -> int:
    return int(np.flatnonzero(mask)[0])


def _all_missing(who: str, n_rows: int) -> str:
    return (
        f"{who} has no label to learn from: all of its {n_rows} training labels are missing. Leave the task out, or "
        "give it labels."
    )


def _one_only(who: str, noun: str, value: Label, n_observed: int) -> str:
    return (
        f"{who} needs at least two different labels to learn from, got one {noun} only: {value!r} "
        f"in all {n_observed} observed training labels. Leave the task out, or give it more rows."
    )


def _not_a_number(who: str, labels: np.ndarray, observed: np.ndarray, where: Callable[[int], str]) -> str:
    for position in np.flatnonzero(observed):
        try:
            is_number = not math.isnan(float(labels[position]))
        except (TypeError, ValueError):
            is_number = False
        if not is_number:
            return f"{who} needs numbers as labels, got {labels[position]!r} in {where(int(position))}."
    raise AssertionError("every observed label is a number")
