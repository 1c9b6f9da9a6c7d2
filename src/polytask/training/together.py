"""Rows of several data sets divided as one, so that a group of rows is on one side in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from polytask.data.joined import joined_values
from polytask.data.splits import Split, holdout
from polytask.errors import DataError
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet
from polytask.training.preparation import Splitter
from polytask.training.running import to_stratify

if TYPE_CHECKING:
    from polytask.recipe import SplitSpec

__all__ = ["grouped_together"]


def grouped_together(spec: SplitSpec, seed: int, data: Sequence[DataSet], tasks: Sequence[Task]) -> Splitter:
    """What divides each data set by groups, no group of which is on two sides, in whatever data sets its rows are.

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
