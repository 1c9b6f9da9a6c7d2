"""Columns that say something about rows and are no inputs: groups to compare, weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from polytask.data.batch import ArraySource
from polytask.errors import DataError, RecipeError, UnknownNameError
from polytask.tasks import registry as kinds
from polytask.training.data_sets import DataSet
from polytask.training.preparation import Prepared

__all__ = ["add_groups", "add_ranked", "add_task_weights", "per_part"]

_MOST_GROUPS = 20


def add_groups(prepared: Prepared, data: Sequence[DataSet], columns: Sequence[str]) -> None:
    """Give the rows of all sources the codes of their groups, and ``prepared`` the levels behind the codes.

    A source without the column has rows of no group. Levels are those of the training rows.

    Raises:
        DataError: If no data set has the column, or it has more than a few values.
    """
    for column in dict.fromkeys(columns):
        values = _columns(data, column, "the groups of a constraint")
        train = pd.concat([pd.Series(v[prepared.splits[name].train], dtype=object) for name, v in values.items()])
        levels = sorted(train.dropna().unique().tolist(), key=str)
        if len(levels) > _MOST_GROUPS:
            raise DataError(
                f"Column {column!r} has {len(levels)} values, and a constraint between groups takes at most "
                f"{_MOST_GROUPS}: name a column of groups, or a few of them by `between`."
            )
        prepared.groups[column] = levels
        code = {level: i for i, level in enumerate(levels)}

        codes = {
            name: torch.tensor([code.get(v, -1) for v in found.tolist()], dtype=torch.int64)
            for name, found in values.items()
        }
        per_part(prepared, partial(_with_codes, column=column, codes=codes))


def add_task_weights(prepared: Prepared, data: Sequence[DataSet], columns: Mapping[str, str]) -> None:
    """Give the rows factors on the losses of single tasks.

    Raises:
        DataError: If no data set has a column, or a weight is negative or missing.
    """
    for task, column in columns.items():
        found = _columns(data, column, f"row_weights of task {task!r}")
        values = {d.name: weights_of(d, found[d.name], column) for d in data if d.name in found}
        per_part(prepared, partial(_with_weights, task=task, values=values))


def add_ranked(prepared: Prepared, data: Sequence[DataSet], columns: Mapping[str, str]) -> None:
    """Give the rows the groups within which single tasks are judged as rankings.

    Raises:
        DataError: If no data set has a column.
        RecipeError: If a task is of a kind that gives a row no score.
    """
    for task in prepared.tasks:
        if task.name not in columns:
            continue
        column = columns[task.name]
        if not task.ranks_rows:
            able = [kind for kind in kinds.names() if kinds.load(kind).ranks_rows]
            raise RecipeError(
                f"Task {task.name!r} is {task.kind} and cannot be ranked_by {column!r}: that takes one score a row, as "
                f"of {', '.join(able)}."
            )
        values = _columns(data, column, f"ranked_by of task {task.name!r}")
        codes, _ = pd.factorize(np.concatenate([np.asarray(found, dtype=object) for found in values.values()]))
        ends = np.cumsum([len(found) for found in values.values()])
        by_source = dict(zip(values, map(torch.from_numpy, np.split(codes.astype(np.int64), ends[:-1])), strict=True))
        per_part(prepared, partial(_with_ranked, task=task.name, codes=by_source))


def _with_ranked(source: ArraySource, rows: np.ndarray, task: str, codes: Mapping[str, torch.Tensor]) -> ArraySource:
    if source.name not in codes or task not in source.tasks:
        return source
    return replace(source, ranked={**source.ranked, task: codes[source.name][torch.from_numpy(rows)]})


def weights_of(data: DataSet, values: np.ndarray, column: str) -> torch.Tensor:
    """Weights of rows as a tensor.

    Raises:
        DataError: If one is negative, or no number.
    """
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float32, na_value=np.nan)
    if (bad := ~(np.isfinite(numbers) & (numbers >= 0))).any():
        row = int(np.flatnonzero(bad)[0])
        value: Any = np.asarray(values, dtype=object)[row]
        got = "nothing" if pd.isna(value) else repr(value)
        raise DataError(
            f"Row weights in {column!r} need finite numbers of at least 0; row {row} of {data.name!r} has {got}."
        )
    return torch.from_numpy(numbers)


def _with_weights(source: ArraySource, rows: np.ndarray, task: str, values: Mapping[str, torch.Tensor]) -> ArraySource:
    if source.name not in values or task not in source.tasks:
        return source
    return replace(source, task_weights={**source.task_weights, task: values[source.name][torch.from_numpy(rows)]})


def _with_codes(source: ArraySource, rows: np.ndarray, column: str, codes: Mapping[str, torch.Tensor]) -> ArraySource:
    none = torch.full((len(rows),), -1, dtype=torch.int64)
    mine = codes[source.name][torch.from_numpy(rows)] if source.name in codes else none
    return replace(source, groups={**source.groups, column: mine})


def per_part(prepared: Prepared, change: Callable[[ArraySource, np.ndarray], ArraySource]) -> None:
    """Change the sources of all parts in place, knowing which rows of the data set each holds."""
    for part in ("train", "validation", "test"):
        sources: dict[str, ArraySource] = getattr(prepared, part)
        for name, source in sources.items():
            sources[name] = change(source, getattr(prepared.splits[name], part))


def _columns(data: Sequence[DataSet], column: str, who: str) -> dict[str, np.ndarray]:
    """A column's values by data set, of those that have it.

    Raises:
        DataError: If none has it; says who asked for it.
    """
    found = {d.name: np.asarray(d.column(column)) for d in data if column in d.column_names}
    if not found:
        known = dict.fromkeys(name for d in data for name in d.column_names)
        raise DataError(str(UnknownNameError("column", column, known, who)))
    return found
