"""Targets against inputs: is the answer among the questions?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.tables import Table, TableLike, open_table
from polytask.errors import InputError, TargetError, UnknownNameError
from polytask.tasks.task import Task

__all__ = ["check_targets", "input_columns"]

_SAMPLE = 5_000
_FEW_ROWS = 10
_FIRST_ROWS = 64
_FEW_VALUES = 2
_LARGEST = 1e100


def input_columns(data: TableLike, tasks: Sequence[Task], drop: Collection[str] = ()) -> tuple[str, ...]:
    """The columns that are inputs if nothing else is said: all but the targets and those to drop.

    Raises:
        TargetError: If a target is not a column.
        InputError: If a column to drop is not there, or no column is left.
    """
    table = open_table(data)
    targets = _targets(table, tasks)
    for name in drop:
        if name not in table:
            raise InputError(str(UnknownNameError("column to drop", name, table.names)))
    names = tuple(name for name in table.names if name not in targets and name not in drop)
    if not names:
        raise InputError(f"{table.origin} has no column left to learn from: all are targets or dropped.")
    return names


def check_targets(
    data: TableLike, tasks: Sequence[Task], inputs: Sequence[str] | None = None, allow: Collection[str] = ()
) -> None:
    """Raise if a target is not a column, is also an input, or an input is a copy of a target.

    A copy has the same values, on all rows where both are there, after a change of type, of scale and offset, or of
    the names of its classes: ``education`` in words beside ``education`` in numbers.

    Args:
        data: Anything that :func:`~polytask.data.tables.open_table` opens.
        tasks: The tasks.
        inputs: The input columns; all but the targets if ``None``.
        allow: Inputs that may be copies of a target.

    Raises:
        TargetError: If a target is not a column; names the nearest one.
        InputError: If an input is a target or a copy of one.

    Example:
        >>> from polytask.tasks import Regression
        >>> table = {"celsius": [0.0, 10.0, 30.0], "fahrenheit": [32.0, 50.0, 86.0]}
        >>> check_targets(table, [Regression(name="celsius")])
        Traceback (most recent call last):
            ...
        polytask.errors.InputError: Input 'fahrenheit' is a copy of target 'celsius' of task 'celsius', ...

    Note:
        Reads each column once. A column is looked at whole only if its first 5,000 rows look like a copy.
    """
    table = open_table(data)
    targets = _targets(table, tasks)
    names = input_columns(table, tasks) if inputs is None else tuple(inputs)
    for name in names:
        if name in targets:
            raise InputError(
                f"Input {name!r} is also the target of task {targets[name]!r}. Leave it out of the inputs, "
                "or the model learns to copy it."
            )
        if name not in table:
            raise InputError(str(UnknownNameError("input column", name, table.names)))
    labels = {target: table.column(target) for target in targets}
    numbers = {target: _Numbers.of(label) for target, label in labels.items()}
    for name in names:
        if name in allow:
            continue
        values = table.column(name)
        floats = _plain_numbers(values)
        for target, label in labels.items():
            known = numbers[target]
            if known is not None and floats is not None and known.are_no_line_of(floats):
                continue
            if _is_copy(values.iloc[:_SAMPLE], label.iloc[:_SAMPLE]) and _is_copy(values, label):
                raise InputError(
                    f"Input {name!r} is a copy of target {target!r} of task {targets[target]!r}, but for its type, "
                    "scale or names. Leave it out of the inputs (--drop), or name it in `allow` of its source: "
                    "--set data.SOURCE.allow=[COLUMN] of a fit or a recipe, --set allow=[COLUMN] of a study."
                )


def _targets(table: Table, tasks: Sequence[Task]) -> dict[str, str]:
    targets: dict[str, str] = {}
    for task in tasks:
        for target in task.targets:
            if target not in table:
                raise TargetError(f"Task {task.name!r}: " + str(UnknownNameError("target column", target, table.names)))
            targets.setdefault(target, task.name)
    return targets


@dataclass(frozen=True)
class _Numbers:
    """What a column of numbers, most of them different, needs to be of to be a copy: a line, on any of its rows.

    With hundreds of targets and inputs nearly all pairs are told apart by a few rows.
    """

    rows: np.ndarray
    values: np.ndarray
    spread: float

    @classmethod
    def of(cls, label: pd.Series[Any]) -> _Numbers | None:
        there = np.flatnonzero(label.notna().to_numpy())
        floats = _plain_numbers(label.iloc[there])
        if floats is None or len(there) <= _FEW_VALUES or 2 * len(pd.unique(floats)) <= len(there):
            return None
        floats = _squarable(floats)
        return cls(there[:_FIRST_ROWS], floats[:_FIRST_ROWS], float(floats.std()))

    def are_no_line_of(self, column: np.ndarray) -> bool:
        """Whether a whole column of numbers, none of them missing, is surely no copy."""
        x, y = _squarable(column[self.rows]), self.values
        x, y = x - x.mean(), y - y.mean()
        size = float(x @ x)
        if size == 0:
            return False
        # A line that misses no row by more than a millionth of the spread misses these by 1e-5 of it in all at most.
        return bool(np.abs(y - (x @ y) / size * x).max() > 1e-4 * self.spread)


def _squarable(numbers: np.ndarray) -> np.ndarray:
    """The numbers, in another unit if their squares would be too large for a float; a copy in any unit is a copy."""
    largest = float(np.abs(numbers).max(initial=0.0))
    return numbers / largest if largest > _LARGEST else numbers


def _plain_numbers(series: pd.Series[Any]) -> np.ndarray | None:
    """The numbers of a numeric column in which none is missing or infinite."""
    if not pd.api.types.is_numeric_dtype(series) or pd.api.types.is_bool_dtype(series):
        return None
    if series.isna().any():
        return None
    floats = series.to_numpy(dtype=np.float64)
    return floats if np.isfinite(floats).all() else None


def _is_copy(values: pd.Series[Any], label: pd.Series[Any]) -> bool:
    both = (values.notna() & label.notna()).to_numpy()
    values, label = values[both], label[both]
    try:
        label_codes, classes = pd.factorize(label)
        value_codes, distinct = pd.factorize(values)
    except TypeError:  # lists and the like; the transform says so
        return False
    few = len(label) < _FEW_ROWS and len(classes) <= _FEW_VALUES
    if few or len(classes) < _FEW_VALUES or len(classes) != len(distinct):
        return False
    # One to one, and not only because all values are different anyway.
    if 2 * len(classes) <= len(label):
        pairs = value_codes.astype(np.int64) * len(classes) + label_codes
        return len(pd.unique(pairs)) == len(classes)
    return _is_affine(values, label)


def _is_affine(values: pd.Series[Any], label: pd.Series[Any]) -> bool:
    x, y = (_floats(series) for series in (values, label))
    if x is None or y is None or len(x) <= _FEW_VALUES:
        as_texts = values.astype(str).str.strip().to_numpy() == label.astype(str).str.strip().to_numpy()
        return bool(as_texts.all())
    if not (np.isfinite(x).all() and np.isfinite(y).all()):  # the transform and the task's codec say so
        return False
    x, y = _squarable(x), _squarable(y)
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x)
    if spread == 0 or not np.isfinite(spread):
        return False
    residual = np.abs(y - (x @ y) / spread * x).max()
    return bool(residual <= 1e-6 * y.std())


def _floats(series: pd.Series[Any]) -> np.ndarray | None:
    if pd.api.types.is_datetime64_any_dtype(series):
        return series.astype("int64").to_numpy(dtype=np.float64)
    numbers = pd.to_numeric(series, errors="coerce")
    return None if numbers.isna().any() else numbers.to_numpy(dtype=np.float64)
