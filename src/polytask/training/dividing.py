"""How the rows of data sets are divided into parts: each set alone, or by groups that several sets share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from polytask.data.joined import joined_values
from polytask.data.splits import Split, given_split, holdout
from polytask.errors import DataError
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet
from polytask.training.preparation import Splitter

if TYPE_CHECKING:
    from polytask.recipe import SplitSpec

__all__ = ["splitter_of", "to_stratify"]


def splitter_of(spec: SplitSpec, seed: int, data: Sequence[DataSet], tasks: Sequence[Task]) -> Splitter:
    """The splitter of a recipe: divides the rows of each data set into parts.

    Args:
        spec: How; by groups, no group is on two sides, in whatever data sets its rows are.
        seed: Of the division.
        data: All data sets that are divided.
        tasks: Their tasks, not fitted.

    Raises:
        DataError: When it divides: as :func:`polytask.data.holdout` and :func:`polytask.data.given_split`, or if by
            groups no training row is left of a data set.
    """
    if spec.method == "grouped" and len(data) > 1:
        return _grouped_together(spec, seed, data, tasks)

    def split(one: DataSet, labelled: Sequence[Task]) -> Split:
        by = one.column(spec.column) if spec.column else None
        if spec.method == "given" and by is not None:
            return given_split(by, str(spec.column), spec.validation, seed)
        return holdout(
            len(one),
            validation=spec.validation,
            test=spec.test,
            seed=seed,
            labels=to_stratify(one, labelled) if spec.method in ("stratified", "grouped") else None,
            groups=by if spec.method == "grouped" else None,
            times=by if spec.method == "time" else None,
        )

    return split


def to_stratify(data: DataSet, tasks: Sequence[Task]) -> dict[str, np.ndarray]:
    """The labels to stratify by; for tasks of pixels, waves and the like, whether a row has a label."""
    labels = {task.name: data.labels(task) for task in tasks}
    for task in tasks:
        given = labels[task.name]
        if task.of_pixels or given.ndim > 2 or (task.of_elements and _are_sequences(given)):
            none = [value is None or value is np.nan for value in given] if given.ndim == 1 else _all_missing(given)
            labels[task.name] = np.where(none, np.nan, 1.0)
    return labels


def _are_sequences(labels: np.ndarray) -> bool:
    """Whether some label is a list, such as the tags of a sentence."""
    return labels.dtype == object and any(isinstance(value, list | tuple | np.ndarray) for value in labels)


def _all_missing(labels: np.ndarray) -> np.ndarray:
    """Which rows have no number at all."""
    missing = np.asarray(pd.isna(labels)).reshape(len(labels), -1)
    return np.asarray(missing.all(axis=1))


def _grouped_together(spec: SplitSpec, seed: int, data: Sequence[DataSet], tasks: Sequence[Task]) -> Splitter:
    """The splitter by groups for several data sets: no group is in two parts, whichever data sets its rows are in.

    Args:
        spec: A split by groups; every data set has its column.
        seed: Of the division.
        data: The data sets.
        tasks: The tasks, not fitted; their labels are in every part in proportion, as well as whole groups allow.

    Raises:
        DataError: When it divides: if no training row is left of a data set, or as :func:`polytask.data.holdout`.
    """

    @cache  # Labels are read when it is asked first: a data set may be told until then which of them count.
    def splits() -> Mapping[str, Split]:
        ends = np.cumsum([len(d) for d in data])
        labels: dict[str, np.ndarray] = {"": np.repeat([d.name for d in data], [len(d) for d in data])}
        for d, end in zip(data, ends, strict=True):
            mine = [task for task in tasks if not task.of_inputs and d.has(task)]
            for name, own in to_stratify(d, mine).items():
                labels[f"{d.name}/{name}"] = _everywhere(own, int(end) - len(d), int(ends[-1]))
        groups = joined_values([d.column(str(spec.column)) for d in data])
        whole = holdout(
            int(ends[-1]), validation=spec.validation, test=spec.test, seed=seed, labels=labels, groups=groups
        )
        found = {}
        for d, end in zip(data, ends, strict=True):
            parts = [
                rows[(rows >= end - len(d)) & (rows < end)] - (end - len(d))
                for rows in (whole.train, whole.validation, whole.test)
            ]
            found[d.name] = Split(*parts)
            if not len(found[d.name].train):
                raise DataError(
                    f"No group of {spec.column!r} may be on two sides, in whatever source, and this leaves no training "
                    f"row of {d.name!r}: it has too few groups. Take another seed, or smaller shares of validation "
                    "and test rows."
                )
        return found

    return lambda d, _: splits()[d.name]


def _everywhere(own: np.ndarray, start: int, n_rows: int) -> np.ndarray:
    """Labels of one data set among the rows of all, missing elsewhere."""
    is_number = own.dtype.kind in "if"
    labels = np.full((n_rows, *own.shape[1:]), np.nan if is_number else None, float if is_number else object)
    labels[start : start + len(own)] = own
    return labels
