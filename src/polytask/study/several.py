"""Several data sets as one: their rows one after another, so that folds, labels and records have one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polytask.data.batch import ArraySource
from polytask.data.joined import joined_values
from polytask.data.learning import of_source
from polytask.data.splits import Split
from polytask.errors import RecipeError
from polytask.models.inputs import InputShape
from polytask.models.views import View
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet

__all__ = ["SeveralData", "rows_of", "sets_of", "split_of"]


class SeveralData(DataSet):
    """The rows of several data sets; each task has labels in one of them.

    Args:
        sets: The data sets.

    Raises:
        RecipeError: If a task's labels could be of several data sets.
    """

    def __init__(self, sets: Sequence[DataSet], tasks: Sequence[Task]):
        self.name = " + ".join(d.name for d in sets)
        self.sets = list(sets)
        ends = np.cumsum([len(d) for d in sets])
        self.starts = {d.name: int(end) - len(d) for d, end in zip(sets, ends, strict=True)}
        for task in tasks:
            holders = [d.name for d in sets if d.has(task)]
            if len(holders) > 1:
                raise RecipeError(
                    f"Task {task.name!r} has labels in {' and '.join(holders)}. In a study each task is of one source: "
                    f"name it, with source: {holders[0]} among the task's options, and make a task of its own of the "
                    "other's labels."
                )

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def holder(self, task: Task) -> DataSet:
        """The data set that has the task's labels."""
        return next(d for d in self.sets if d.has(task))

    def has(self, task: Task) -> bool:
        """Whether one of them holds labels of the task."""
        return any(d.has(task) for d in self.sets)

    @property
    def label_names(self) -> Sequence[str]:
        """Those of all."""
        return [name for d in self.sets for name in d.label_names]

    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """The task's labels, missing in the rows of other data sets."""
        holder = self.holder(task)
        own = holder.labels(task)
        is_number = own.dtype.kind in "if"
        everywhere = np.full((len(self), *own.shape[1:]), np.nan if is_number else None, float if is_number else object)
        start = self.starts[holder.name]
        everywhere[start : start + len(own)] = own
        return everywhere if rows is None else everywhere[rows]

    def column(self, name: str) -> np.ndarray:
        """The column of that name, which all of them must have."""
        return joined_values([d.column(name) for d in self.sets])

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Fit each on its own rows."""
        for d, own in self.divided(rows):
            noted: list[str] = []
            d.fit(tasks, own, noted)
            notes += [of_source(note, d.name) for note in noted]

    def divided(self, rows: np.ndarray) -> list[tuple[DataSet, np.ndarray]]:
        """Which of the rows are of each data set, counted there."""
        found = []
        for d in self.sets:
            start = self.starts[d.name]
            own = rows[(rows >= start) & (rows < start + len(d))]
            found.append((d, own - start))
        return found

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """Rows of different data sets have no inputs in common.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError(f"{self.name} are several data sets; their inputs are read one by one.")

    def shape(self) -> InputShape:
        """As :meth:`inputs_of`.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError(f"{self.name} are several data sets, each with inputs of its own shape.")

    def view(self, task: Task) -> View | None:
        """That of the data set that holds the task."""
        return self.holder(task).view(task)

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise if an input of one is a copy of a target there."""
        for d in self.sets:
            d.check([task for task in tasks if d.has(task)])

    def describe(self) -> dict[str, Any]:
        """All of them, and what they come to."""
        by_name = {d.name: d.describe() for d in self.sets}
        inputs = sorted({name for found in by_name.values() for name in found["inputs"] or ()})
        hashes = [found["sha256"] for found in by_name.values()]
        return {
            "path": None,
            "rows": len(self),
            "columns": sorted({name for found in by_name.values() for name in found["columns"]}),
            "inputs": inputs,
            "sha256": " ".join(hashes) if all(hashes) else None,
            "sources": by_name,
        }


def sets_of(data: DataSet) -> list[DataSet]:
    """The data sets of which the rows are."""
    return data.sets if isinstance(data, SeveralData) else [data]


def split_of(data: DataSet, split: Split) -> Mapping[str, Split]:
    """The split of each data set."""
    if not isinstance(data, SeveralData):
        return {data.name: split}
    parts = [data.divided(rows) for rows in (split.train, split.validation, split.test)]
    return {d.name: Split(*(part[i][1] for part in parts)) for i, d in enumerate(data.sets)}


def rows_of(data: DataSet, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Which of the rows are of each data set, counted among the rows of all."""
    if not isinstance(data, SeveralData):
        return {data.name: rows}
    return {d.name: own + data.starts[d.name] for d, own in data.divided(rows)}
