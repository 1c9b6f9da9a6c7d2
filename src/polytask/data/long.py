"""A long table, in which a column says which task a row is of, as a table with a target column for each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.cells import category_keys
from polytask.data.tables import Table, TableLike, open_table
from polytask.errors import DataError, TargetError, UnknownNameError

__all__ = ["LongTable"]


class LongTable(Table):
    """A table with a column for each value of ``by`` and each target, where the labels of other values are missing.

    The inputs are those of the table underneath, which is not copied; a target column is made when it is asked for.

    Args:
        data: Anything that :func:`~polytask.data.tables.open_table` opens.
        by: The column that says which task a row is of.
        targets: The target columns.
        fewest: Values with fewer labels than this have no column.

    Raises:
        UnknownNameError: If there is no such column.
        DataError: If ``by`` is a target, or fewer than two of its values have enough labels.

    Example:
        >>> marks = {"hours": [3, 4, 5, 6], "mark": [2.0, 3.0, 4.0, 5.0], "school": ["Elm", "Elm", "Oak", "Oak"]}
        >>> table = LongTable(marks, "school", ["mark"], fewest=2)
        >>> table.names, table.column("Oak").tolist()
        (('hours', 'Elm', 'Oak'), [nan, nan, 4.0, 5.0])
    """

    def __init__(self, data: TableLike, by: str, targets: Sequence[str], fewest: int = 1):
        self.base = open_table(data)
        for name in (by, *targets):
            if name not in self.base:
                raise UnknownNameError(f"column of {self.base.origin}", name, self.base.names)
        if by in targets:
            raise TargetError(f"{by!r} says which task a row is of, and cannot be a target too.")
        self.by = by
        values = self.base.column(by)
        raw, distinct = pd.factorize(values)
        keys = category_keys(distinct)
        order = _sorted(dict.fromkeys(keys))
        places = {key: place for place, key in enumerate(order)}
        # The last entry is where the -1 of a missing value points.
        self._codes = np.array([*(places[key] for key in keys), -1])[raw]
        self._made: dict[str, tuple[str, int]] = {}
        """Target column and position of the value, by name."""
        self.task_of: dict[str, dict[str, str]] = {target: {} for target in targets}
        """By target and value, the made column."""
        self.left_out: dict[str, int] = {}
        """Number of labels of what has too few of them, by name."""
        inputs = [name for name in self.base.names if name != by and name not in targets]
        for target in targets:
            labels = self.base.column(target).notna().to_numpy()
            counts = np.bincount(self._codes[labels & (self._codes >= 0)], minlength=len(order))
            for place, key in enumerate(order):
                name = _name(by, key, target, is_only=len(targets) == 1, taken=self.base.names)
                if counts[place] >= fewest:
                    self._made[name] = (target, place)
                    self.task_of[target][key] = name
                else:
                    self.left_out[name] = int(counts[place])
        if (n_left := len({place for _, place in self._made.values()})) < 2:
            raise DataError(
                f"Column {by!r} of {self.base.origin} has {n_left} values with {fewest} labels or more, of "
                f"{len(order)}; tasks are made of two such values or more."
            )
        super().__init__([*inputs, *self._made], self.base.origin)
        self.folder = self.base.folder

    @property
    def target_of(self) -> dict[str, str]:
        """The target column that each made column is of."""
        return {name: target for name, (target, _) in self._made.items()}

    def __len__(self) -> int:
        return len(self.base)

    def column(self, name: str) -> pd.Series[Any]:
        """A column of the table underneath, or the labels of one value and missing ones elsewhere."""
        if name not in self._made:
            return self.base.column(name)
        target, place = self._made[name]
        return self.base.column(target).where(self._codes == place).rename(name)


def _name(by: str, key: str, target: str, *, is_only: bool, taken: Sequence[str]) -> str:
    """``Elm``, or ``school 12`` where the value on its own would not say what it is."""
    name = key if key.strip("-.0123456789") and len(key) > 1 and key not in taken else f"{by} {key}"
    return name if is_only else f"{target} of {name}"


def _sorted(keys: Sequence[str] | dict[str, None]) -> list[str]:
    numbers = pd.to_numeric(pd.Series(list(keys), dtype=object), errors="coerce")
    if numbers.notna().all():
        return [key for _, key in sorted(zip(numbers, keys, strict=True))]
    return sorted(keys)
