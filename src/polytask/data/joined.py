"""Columns of several tables one after another, so that the same value is the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["joined_values"]


def joined_values(columns: Sequence[np.ndarray]) -> np.ndarray:
    """The columns as one; where their types differ, numbers are compared as numbers, and with texts as texts.

    A table in which one row lacks its number has decimals where the other has integers: 1 and 1.0 are one patient.
    A value that is missing stays missing.

    Example:
        >>> joined_values([np.array([1, 2]), np.array([1.0, 3.0])])
        array([1., 2., 1., 3.])
        >>> joined_values([np.array([1.0]), np.array(["1", None], dtype=object)])
        array(['1', '1', None], dtype=object)
        >>> joined_values([np.array([1], dtype=object), np.array(["1"], dtype=object)])
        array(['1', '1'], dtype=object)
    """
    kinds = {column.dtype.kind for column in columns}
    if kinds == {"O"}:
        is_alike = len({isinstance(value, str) for column in columns for value in column if not pd.isna(value)}) < 2
    else:
        is_alike = len({column.dtype for column in columns}) == 1 or kinds <= set("iuf") or kinds == {"U"}
    if is_alike:
        return np.concatenate(list(columns))
    return np.array([_text(value) for column in columns for value in column], dtype=object)


def _text(value: Any) -> str | None:
    if pd.isna(value):
        return None
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)
