"""Rows for a network that is trained already: columns and tensors as it knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from polytask.bundle import Bundle, Network
from polytask.data.columns import CategoricalColumn
from polytask.data.tables import open_table
from polytask.data.transform import TableTransform
from polytask.errors import InputError, RecipeError, TargetError
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet, TableData
from polytask.training.opening import controls_of, targets_of

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["KnownTable", "check_labels", "known_data", "label_counts"]


class KnownTable(TableData):
    """A table whose inputs become tensors as they did in an earlier training; nothing is learned from its inputs.

    Args:
        name: The source's name in that training.
        table: Anything that :func:`~polytask.data.tables.open_table` opens.
        transform: The fitted transform.
        targets: The target columns.
        beside: Columns that say something about rows: weights, conditions, groups to rank in.

    Raises:
        InputError: If an input column is missing, or holds what it did not hold then.
    """

    def __init__(
        self, name: str, table: Any, transform: TableTransform, targets: Sequence[str], beside: Sequence[str] = ()
    ):
        opened = open_table(table)
        if both := [target for target in targets if target in transform.names]:
            raise TargetError(
                f"{', '.join(both)}: an input of the model cannot be a task of it too. If the column of labels only "
                "has that name, rename it."
            )
        if len(opened):
            transform.transform(opened, np.arange(min(len(opened), 100)))  # columns are missed before labels are read
        super().__init__(name, table, inputs=[c for c in transform.names if c in opened], targets=targets)
        self.transform = transform
        named = {*self.inputs, *targets, *beside}
        self.unread = [column for column in opened.names if column not in named]

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Learn nothing; note columns that are not read, and values that the model does not know."""
        if self.unread:
            more = ", ..." if len(self.unread) > 8 else ""
            notes.append(f"Columns that the model has no inputs for are not read: {', '.join(self.unread[:8])}{more}.")
        for name, column in self.transform.read.items():
            if not isinstance(column, CategoricalColumn):
                continue
            values = self.table.column(name)
            unknown = column.unknown(values)
            if new := sorted(set(values[unknown].astype(str))):
                shown = ", ".join(new[:3]) + (", ..." if len(new) > 3 else "")
                what = "value that the model does not know" if len(new) == 1 else "values that the model does not know"
                notes.append(
                    f"{name}: {len(new)} {what} ({shown}), in {int(unknown.sum()):,} of {len(values):,} rows; it reads "
                    "all of them as one rare value."
                )


def known_data(bundle: Bundle, network: Network, source: str, data: Any, recipe: Recipe) -> tuple[DataSet, list[str]]:
    """New rows of one of the network's sources, as a data set, and notes.

    Raises:
        InputError: If they are not as the network's inputs are.
        RecipeError: If a task reads part of the inputs only.
    """
    if any(options.get("inputs") for options in recipe.tasks.values()):
        raise RecipeError("A task that is added reads all inputs of the model; take its `inputs` out.")
    targets = [target for name, options in recipe.tasks.items() for target in targets_of(name, options)]
    transform = bundle.transforms.get(source)
    if isinstance(data, DataSet):
        if transform is not None or data.name != source:
            raise InputError(
                f"The model reads {source!r}, {'a table' if transform is not None else 'arrays'}; got {data.name!r}."
            )
        network.spec.inputs[source].check(data.inputs_of(np.arange(1)).inputs, "The model")
        return data, []
    if transform is None:
        raise InputError(
            f"The model reads arrays of {source!r}, not a table: give an ArrayData({source!r}, inputs, labels)."
        )
    beside = []
    for control in controls_of(recipe).values():
        beside += [*control.only_where, *(c for c in (control.row_weights, control.ranked_by) if c is not None)]
    return KnownTable(source, data, transform, targets, beside), []


def label_counts(data: Any, tasks: Sequence[Task]) -> dict[str, int]:
    """Labels of each task that has some in a table or data set."""
    if isinstance(data, DataSet):
        found = {task.name: int(pd.notna(data.labels(task)).sum()) for task in tasks if data.has(task)}
    else:
        table = open_table(data)
        found = {
            task.name: sum(int(table.column(t).notna().sum()) for t in task.targets if t in table) for task in tasks
        }
    return {name: count for name, count in found.items() if count}


def check_labels(data: DataSet, recipe: Recipe, old: Sequence[str]) -> None:
    """Raise if a task has fewer labels than a head can be learned from.

    Raises:
        TargetError: Naming the task, the number of its labels, and what can be done without any.
    """
    for name, options in recipe.tasks.items():
        if not isinstance(data, TableData) or not all(t in data.table for t in targets_of(name, options)):
            continue  # which columns there are is said where they are read
        counts = [int(data.table.column(t).notna().sum()) for t in targets_of(name, options)]
        if max(counts) < 2:
            what = "no label" if not max(counts) else "one label only"
            raise TargetError(
                f"Task {name!r} has {what} in the {len(data):,} rows of the data, and a head learns from two different "
                f"ones at least. Without labels it can take the head of an old task over: like={old[0]!r} "
                f"(--like {old[0]})."
            )
