"""Rows for a network that is trained already: columns and tensors as it knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.bundle import Bundle, Network
from polytask.data.batch import ArraySource
from polytask.data.columns import CategoricalColumn
from polytask.data.tables import open_table
from polytask.data.transform import TableTransform
from polytask.errors import DataError, InputError, RecipeError, TargetError
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet, TableData
from polytask.training.running import splitter_of, targets_of

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["KnownTable", "check_labels", "first_provenance", "kept_rows", "known_data", "label_counts"]


class KnownTable(TableData):
    """A table whose inputs become tensors as they did in an earlier training; nothing is learned from its inputs.

    Args:
        name: The source's name in that training.
        table: Anything that :func:`~polytask.data.tables.open_table` opens.
        transform: The fitted transform.
        targets: The target columns.

    Raises:
        InputError: If an input column is missing, or holds what it did not hold then.
    """

    def __init__(self, name: str, table: Any, transform: TableTransform, targets: Sequence[str]):
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
        named = {*self.inputs, *targets}
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
    return KnownTable(source, data, transform, targets), []


def label_counts(data: Any, recipe: Recipe) -> dict[str, int]:
    """Labels of each task that has some in a table."""
    table = open_table(data)
    counts = {
        name: sum(int(table.column(t).notna().sum()) for t in targets_of(name, options) if t in table)
        for name, options in recipe.tasks.items()
    }
    return {name: count for name, count in counts.items() if count}


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


def kept_rows(
    bundle: Bundle, tasks: Sequence[Task], recipe: Recipe | None, given: Any = None
) -> tuple[dict[str, ArraySource], dict[str, ArraySource], str]:
    """Rows of the old tasks that their training did not see, its training rows, and what to know about them.

    Args:
        bundle: The old model.
        tasks: Its tasks.
        recipe: How it was trained, if that is known.
        given: Its data, by source if there are several; read from the paths in its recipe if ``None``.

    Raises:
        DataError: If the data cannot be found.
    """
    described = first_provenance(bundle).get("data", {})
    paths = {name: described.get(name, {}).get("path") for name in bundle.sources}
    data = paths if given is None else given if isinstance(given, Mapping) else {bundle.sources[0]: given}
    kept: dict[str, ArraySource] = {}
    train: dict[str, ArraySource] = {}
    others = []
    for name in bundle.sources:
        if data.get(name) is None:
            raise DataError(
                f"What changes for the old tasks is measured on rows of {name!r} with their labels, and the run does "
                "not say where they are: give --old-data, or leave the network frozen."
            )
        dataset = _old_data(bundle, tasks, name, data[name], recipe)
        mine = [task for task in tasks if dataset.has(task)]
        same = described.get(name, {}).get("sha256")
        if recipe is not None and same is not None and same == dataset.describe()["sha256"]:
            split = splitter_of(recipe.split, recipe.seed)(dataset, mine)
            rows = np.concatenate([split.validation, split.test])
            train[name] = dataset.source(mine, split.train, [])
        else:
            rows = np.arange(len(dataset))
            train[name] = dataset.source(mine, rows, [])
            others.append(name)
        if len(rows):
            kept[name] = dataset.source(mine, rows, [])
    about = (
        f"Old tasks are measured on all rows of {', '.join(others)}, which are other data than the run's, or arrays."
        if others
        else "Old tasks are measured on the rows that their training kept apart."
    )
    return kept, train, about


def first_provenance(bundle: Bundle) -> Mapping[str, Any]:
    """Where a bundle comes from, before any extension."""
    origin = bundle.provenance
    while "of" in origin:
        origin = origin["of"]
    return origin


def _old_data(bundle: Bundle, tasks: Sequence[Task], name: str, data: Any, recipe: Recipe | None) -> DataSet:
    if isinstance(data, DataSet):
        return data
    transform = bundle.transforms.get(name)
    if transform is None:
        raise DataError(f"The model reads arrays of {name!r}: give an ArrayData({name!r}, inputs, labels) as old_data.")
    targets = [target for task in tasks for target in task.targets]
    opened = open_table(data)
    return KnownTable(name, data, transform, [target for target in targets if target in opened])
