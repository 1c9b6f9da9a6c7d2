"""A table: named columns, read one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from polytask.errors import DataError, InputError

__all__ = ["FrameTable", "Table", "TableLike", "check_names", "matched_columns"]

TableLike: TypeAlias = Any
"""A path, a pandas, polars or pyarrow table, a dict of arrays, a 2-D array, or a :class:`Table`."""


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


def matched_columns(table: Table, names: Sequence[str], needed: Sequence[str]) -> dict[str, str]:
    """What a table calls the columns that training had.

    Args:
        table: The table; one without names of its own needs as many columns as training had.
        names: All columns of training, in their order.
        needed: Those of them that are read.

    Raises:
        InputError: If one is missing, or their number is another.

    Example:
        >>> table = FrameTable(pd.DataFrame([[1, 2]]), "The array", is_positional=True)
        >>> matched_columns(table, ["age", "town"], ["town"])
        {'age': '0', 'town': '1'}
    """
    if table.is_positional:
        if len(table.names) != len(names):
            raise InputError(
                f"{table.origin} has {len(table.names)} columns, but training had {len(names)}: {_listed(names)}."
            )
        return dict(zip(names, table.names, strict=True))
    missing = [name for name in needed if name not in table]
    if missing:
        raise InputError(
            f"{table.origin} lacks {_listed(missing)}, which training had. It has {_listed(table.names)}. Add "
            f"{'the column' if len(missing) == 1 else 'the columns'}, empty where unknown; or train again without "
            f"{'it' if len(missing) == 1 else 'them'} (--drop {','.join(missing[:8])}).",
            missing[0],
        )
    return {name: name for name in needed}


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
