"""What the arms of plain models, one estimator a column, have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polytask.bundle import BundledModel, Estimators, Member
from polytask.bundle.columns import Column, columns_of, labels_of_column
from polytask.study.arm import FoldData
from polytask.tasks.task import Task

__all__ = ["Rows", "estimators", "rows_of", "served", "why_not_serve"]

Rows = tuple[np.ndarray, np.ndarray]
"""Inputs ``[N, D]`` and observed labels ``[N]`` of one column."""


def served(fold: FoldData, what: Sequence[str]) -> list[Task]:
    """Tasks all of whose columns are of these sorts, and have two different labels among the training rows.

    Tasks of files are none of them: pixels and waves are read as networks need them, a batch at a time.
    """
    found = []
    for task in fold.tasks:
        columns = columns_of(task)
        if (
            columns
            and not _of_files(fold, task)
            and all(column.what in what and _varies(fold, column) for column in columns)
        ):
            found.append(task)
    return found


def why_not_serve(fold: FoldData, what: Sequence[str]) -> str:
    """Why plain models make no sense on this data; empty if they can serve a task."""
    if served(fold, what):
        return ""
    if all(_of_files(fold, task) for task in fold.tasks):
        return "it reads no files of pixels or waves"
    return "none of the tasks is of a kind that it can learn"


def _of_files(fold: FoldData, task: Task) -> bool:
    """Whether a source that has labels of the task is one of files."""
    sources = fold.plain["train"].items()
    return any(task.name in source.tasks and name in fold.prepared.files for name, source in sources)


def _varies(fold: FoldData, column: Column) -> bool:
    """Whether a column has two different labels, in whatever source's training rows they are."""
    holders = [source for source in fold.plain["train"].values() if column.task in source.tasks]
    labels = np.concatenate([labels_of_column(column, source) for source in holders])
    return len(np.unique(labels[~np.isnan(labels)])) > 1


def rows_of(fold: FoldData, matrix: np.ndarray, column: Column, part: str) -> Rows:
    """The rows of a part in which the column is observed."""
    labels = fold.labels(column, part)
    seen = ~np.isnan(labels)
    return matrix[seen], labels[seen]


def known_classes(rows: Rows, classes: np.ndarray) -> Rows:
    """The rows whose class is among those given."""
    keep = np.isin(rows[1], classes)
    return rows[0][keep], rows[1][keep]


def estimators(fold: FoldData, tasks: Sequence[Task], members: Sequence[Member]) -> BundledModel:
    """The estimators as a model of a bundle."""
    return Estimators(fold.source, tasks, members, encoding=fold.encoding)
