"""Answers for the rows of a long table: each row's own task among those that a column says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from polytask.data.cells import category_keys
from polytask.data.tables import open_table
from polytask.tasks.task import Prediction

__all__ = ["own_answers"]


def own_answers(by: Mapping[str, Any], data: Any, answers: Mapping[str, Prediction]) -> dict[str, np.ndarray] | None:
    """A column for each target with the answer of each row's own task; ``None`` if the table does not say which.

    Args:
        by: ``column``, and ``tasks``: by target, the task of each value of the column.
        data: The rows.
        answers: Answers of all tasks for all rows.

    Example:
        >>> by = {"column": "town", "tasks": {"price": {"1": "town 1", "2": "town 2"}}}
        >>> answers = {"town 1": Prediction(np.array([5.0, 6.0, 7.0])), "town 2": Prediction(np.array([8.0, 9.0, 1.0]))}
        >>> own_answers(by, {"town": [2, 1, 3]}, answers)["price"].tolist()
        [8.0, 6.0, nan]
    """
    table = open_table(data)
    if by["column"] not in table:
        return None
    keys = np.array(category_keys(table.column(by["column"])))
    found: dict[str, np.ndarray] = {}
    for target, tasks in by["tasks"].items():
        for value, task in tasks.items():
            rows = np.flatnonzero(keys == value)
            for name, values in answers[task].columns(target).items() if task in answers else ():
                is_number = values.dtype.kind in "fiu"
                empty = np.full(len(keys), np.nan if is_number else None, dtype=float if is_number else object)
                found.setdefault(name, empty)[rows] = values[rows]
    return found
