"""Target columns in the forms in which people hold them: read, picked, and answered in the same form."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.errors import RecipeError, TargetError

__all__ = ["Columns", "answer", "by_task", "read_columns"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """Target columns as they were given.

    Args:
        form: ``vector``, ``matrix``, ``mapping`` or ``frame``: the form in which predictions are answered.
        tasks: The columns' names; their positions if they have none.
        labels: A task's labels; what stands where a label is missing has no meaning.
        observed: Which labels are there.
    """

    form: str
    tasks: list[Hashable]
    labels: list[NDArray[Any]]
    observed: Bools

    def take(self, rows: Bools) -> Columns:
        """Only some rows."""
        return Columns(self.form, self.tasks, [labels[rows] for labels in self.labels], self.observed[rows])

    def pick(self, tasks: Sequence[Hashable]) -> Columns:
        """The columns of ``tasks``, in that order.

        Raises:
            TargetError: If the columns are not those tasks.
        """
        if set(tasks) != set(self.tasks):
            raise TargetError(f"The targets must be {list(tasks)}, as in training; got {self.tasks}.")
        order = [self.tasks.index(task) for task in tasks]
        return Columns(self.form, list(tasks), [self.labels[place] for place in order], self.observed[:, order])


def read_columns(Y: Any) -> Columns:
    """Read targets given as a vector, a matrix, a mapping of columns or a data frame.

    Raises:
        TargetError: If the columns have different lengths, mix numbers and text, or hold an infinity.
    """
    if isinstance(Y, Mapping) or (hasattr(Y, "columns") and hasattr(Y, "__getitem__")):
        form = "mapping" if isinstance(Y, Mapping) else "frame"
        names = list(Y) if form == "mapping" else list(Y.columns)
        raw = [Y[name] for name in names]
    else:
        array = np.asarray(Y, dtype=object) if _has_none(Y) else np.asarray(Y)
        if array.ndim not in (1, 2):
            raise TargetError(f"Targets must be one column or a table [rows, tasks], got {array.ndim} dimensions.")
        form = "vector" if array.ndim == 1 else "matrix"
        raw = [array] if array.ndim == 1 else list(array.T)
        names = list(range(len(raw)))
    if not raw:
        raise TargetError("There is no target column; give at least one.")
    pairs = [_read_column(name, column) for name, column in zip(names, raw, strict=True)]
    lengths = {len(labels) for labels, _ in pairs}
    if len(lengths) > 1:
        raise TargetError(f"The target columns have different lengths: {sorted(lengths)}.")
    return Columns(form, names, [labels for labels, _ in pairs], np.column_stack([seen for _, seen in pairs]))


def answer(form: str, tasks: list[Hashable], labels: list[NDArray[Any]], index: Any = None) -> Any:
    """Labels of all tasks in the form in which targets were given: see :class:`Columns`; a frame with this index."""
    if form == "vector":
        return labels[0]
    if form == "matrix":
        is_text = any(label.dtype.kind not in "biuf" for label in labels)
        return np.column_stack([label.astype(object) for label in labels] if is_text else labels)
    by_name = dict(zip(tasks, labels, strict=True))
    if form == "mapping":
        return by_name
    import pandas as pd  # only those who gave a data frame need it

    return pd.DataFrame(by_name, index=index if isinstance(index, pd.Index) else None)


def by_task(option: str, given: Any, tasks: Sequence[Hashable], default: Any) -> list[Any]:
    """Read an option given as None, as a mapping from task to value, or as a sequence with one value a task.

    Raises:
        RecipeError: If it names a task that is not there, or has the wrong length.
    """
    if given is None:
        return [default] * len(tasks)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in tasks]
        if unknown:
            raise RecipeError(f"{option} names {unknown[0]!r}, which is no target. Targets: {list(tasks)}.")
        return [given.get(task, default) for task in tasks]
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != len(tasks):
        raise RecipeError(
            f"{option} must be a mapping from task to value, or one value for each of the {len(tasks)} "
            f"targets in order; got {given!r}."
        )
    return list(given)


def _has_none(Y: Any) -> bool:
    # A list with None in it becomes an object array by itself; one that also holds text must not become text.
    if hasattr(Y, "dtype"):
        return False
    return isinstance(Y, Sequence) and any(
        value is None for row in Y for value in (row if isinstance(row, list | tuple) else [row])
    )


def _read_column(task: Hashable, column: Any) -> tuple[NDArray[Any], Bools]:
    array = np.asarray(column)
    if array.ndim != 1:
        raise TargetError(f"The column of task {task!r} must have one dimension, got {array.ndim}.")
    if array.dtype.kind in "biuUS":
        return array, np.ones(len(array), dtype=bool)
    if array.dtype.kind == "f":
        numbers = array.astype(np.float64)
        if np.isinf(numbers).any():
            raise TargetError(f"Task {task!r} has an infinite label; remove it or mark it missing with NaN.")
        return numbers, ~np.isnan(numbers)
    if array.dtype.kind != "O":
        raise TargetError(f"Task {task!r} has labels of type {array.dtype}; numbers, text or booleans are needed.")
    return _read_objects(task, array)


def _read_objects(task: Hashable, array: NDArray[Any]) -> tuple[NDArray[Any], Bools]:
    import pandas as pd  # only those whose columns hold objects need it; None, NaN and NA are all missing

    seen = ~pd.isna(array)
    values = array[seen].tolist()
    natural = np.array(values) if values else np.zeros(0)
    is_mixed = natural.dtype.kind in "US" and not all(isinstance(value, str | bytes) for value in values)
    if natural.ndim != 1 or natural.dtype.kind not in "biufUS" or is_mixed:
        raise TargetError(f"Task {task!r} mixes types in its labels; numbers, text or booleans are needed.")
    if natural.dtype.kind == "f" and np.isinf(natural).any():
        raise TargetError(f"Task {task!r} has an infinite label; remove it or mark it missing with NaN.")
    labels = np.zeros(len(array), dtype=natural.dtype)
    labels[seen] = natural
    return labels, seen
