"""Rows for a network that is trained already: columns and tensors as it knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from polytask.bundle import Bundle, Network
from polytask.data.batch import ArraySource
from polytask.data.columns import CategoricalColumn
from polytask.data.tables import open_table
from polytask.data.transform import TableTransform
from polytask.errors import DataError, InputError, RecipeError, TargetError
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet, TableData
from polytask.training.running import conditions_of, controls_of, is_table, splitter_of, targets_of

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["KnownTable", "OldRows", "check_labels", "kept_rows", "known_data", "label_counts", "provenances"]


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
        """Only say what is not read, and what the model cannot know."""
        if self.unread:
            more = ", ..." if len(self.unread) > 8 else ""
            notes.append(f"No inputs of the model, and so not read: {', '.join(self.unread[:8])}{more}.")
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
    """New rows of a source that the network knows.

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


@dataclass(frozen=True)
class OldRows:
    """Rows of the tasks that a model has, for its training after an extension.

    Args:
        kept: Rows that their training did not see, by source.
        train: Their training rows.
        data: Description of each source.
        about: What to know about them.
    """

    kept: dict[str, ArraySource] = field(default_factory=dict)
    train: dict[str, ArraySource] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    about: str = ""


def kept_rows(bundle: Bundle, tasks: Sequence[Task], recipes: Sequence[Recipe], given: Any = None) -> OldRows:
    """Rows of the old tasks that their training did not see, and its training rows.

    Args:
        bundle: The old model.
        tasks: Its tasks.
        recipes: How it was trained, if that is known: the first recipe, then those of its extensions.
        given: Its data, by source if there are several; read from the paths in its recipe if ``None``.

    Raises:
        DataError: If the data cannot be found.
    """
    first = provenances(bundle)[0]
    described = first.get("data", {})
    paths = {name: described.get(name, {}).get("path") for name in bundle.sources}
    by_source = isinstance(given, Mapping) and not is_table(given)
    data = paths if given is None else given if by_source else {bundle.sources[0]: given}
    conditions = {name: wanted for recipe in recipes for name, wanted in conditions_of(recipe).items()}
    found = OldRows()
    others = []
    for name in bundle.sources:
        if data.get(name) is None:
            raise DataError(
                f"What changes for the old tasks is measured on rows of {name!r} with their labels, and the run does "
                "not say where they are: give --old-data, or leave the network frozen."
            )
        dataset = _old_data(bundle, tasks, name, data[name])
        dataset.conditions = conditions
        found.data[name] = dataset.describe()
        mine = [task for task in tasks if dataset.has(task)]
        same = described.get(name, {}).get("sha256")
        if "recipe" in first and same is not None and same == found.data[name]["sha256"]:
            # Divided as it was then: tasks that came later had no say in it.
            then = [task for task in mine if task.name in recipes[0].tasks and not task.of_inputs]
            split = splitter_of(recipes[0].split, recipes[0].seed)(dataset, then)
            rows = np.concatenate([split.validation, split.test])
            found.train[name] = dataset.source(mine, split.train, [])
        else:
            rows = np.arange(len(dataset))
            found.train[name] = dataset.source(mine, rows, [])
            others.append(name)
        if len(rows):
            found.kept[name] = dataset.source(mine, rows, [])
    about = (
        f"Old tasks are measured on all rows of {', '.join(others)}, which are other data than the run's, or arrays."
        if others
        else "Old tasks are measured on the rows that their training kept apart."
    )
    return replace(found, about=about)


def provenances(bundle: Bundle) -> list[Mapping[str, Any]]:
    """Where a bundle comes from: its first training, then each extension."""
    found = [bundle.provenance]
    while "of" in found[0]:
        found.insert(0, found[0]["of"])
    return found


def _old_data(bundle: Bundle, tasks: Sequence[Task], name: str, data: Any) -> DataSet:
    if isinstance(data, DataSet):
        return data
    transform = bundle.transforms.get(name)
    if transform is None:
        raise DataError(f"The model reads arrays of {name!r}: give an ArrayData({name!r}, inputs, labels) as old_data.")
    targets = [target for task in tasks for target in task.targets]
    opened = open_table(data)
    return KnownTable(name, data, transform, [target for target in targets if target in opened])
