"""Rows whose cells were read and checked one by one, so that nothing has to be found out about their columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.tables import Table

__all__ = ["CheckedRows"]


class CheckedRows(Table):
    """Columns in memory that are what a fitted transform wants: for a few rows, reading them would take longest.

    Args:
        columns: By name: finite numbers as float64 and NaN where missing; truth values as 1 and 0 and NaN; categories
            as their keys (:func:`~polytask.data.cells.category_keys`) and ``None``; dates as datetimes. All of one
            length.
        origin: What messages call them.

    Example:
        >>> from polytask.data.transform import TableTransform
        >>> transform = TableTransform().fit({"age": [30.0, 40.0, 50.0], "town": ["x", "y", "x"]})
        >>> rows = CheckedRows({"age": np.array([40.0]), "town": np.array(["x"], dtype=object)}, "The request")
        >>> {name: values.tolist() for name, values in transform.transform(rows).items()}
        {'numeric': [[0.0]], 'categorical': [[2]]}
    """

    def __init__(self, columns: Mapping[str, np.ndarray], origin: str):
        super().__init__(list(columns), origin)
        self.folder = None
        self._columns = columns

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values())))

    def column(self, name: str) -> pd.Series[Any]:
        """One column as any other table has it."""
        return pd.Series(self._columns[name])

    def cells(self, name: str) -> np.ndarray:
        """One column as it is."""
        return self._columns[name]
