"""Rows of the tasks that a model has, each task's divided as in the training that it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.bundle import Bundle
from polytask.data.batch import ArraySource
from polytask.data.tables import open_table
from polytask.errors import DataError
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet
from polytask.training.dividing import splitter_of
from polytask.training.known_data import KnownTable
from polytask.training.opening import conditions_of, is_table

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["OldRows", "old_rows", "provenances"]


@dataclass
class OldRows:
    """Rows of the tasks that a model has, for its training after an extension.

    Attributes:
        kept: Rows that their training did not see; a source for each data set and training.
        train: Their training rows, in the same way.
        data: Descriptions of their data, in the same way.
        unmeasured: Tasks that have no label in any of the rows that are kept.
        notes: What to know about them.
    """

    kept: dict[str, ArraySource] = field(default_factory=dict)
    train: dict[str, ArraySource] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    unmeasured: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Training:
    """A training that tasks are from: the first one, or an extension.

    Args:
        tasks: Its tasks.
        recipe: How it was done; ``None`` if that is not known.
        described: Its data sets, by source.
        is_first: Whether it made the model.
    """

    tasks: Sequence[Task]
    recipe: Recipe | None
    described: Mapping[str, Mapping[str, Any]]
    is_first: bool

    def divided(self, data: Mapping[str, DataSet]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Rows that it kept apart and those that it learned from, by source.

        Sources whose data were others are left out; where groups of rows are on one side in all sources, nothing is
        known without each of them.
        """
        if self.recipe is None:
            return {}
        same = {name: one for name, one in data.items() if self._had(name, one)}
        if self.recipe.split.method == "grouped" and len(same) < len(self.described):
            return {}
        tasks = [task for task in self.tasks if not task.of_inputs]
        split = splitter_of(self.recipe.split, self.recipe.seed, list(same.values()), tasks)
        parts = {name: split(one, [task for task in tasks if one.has(task)]) for name, one in same.items()}
        return {name: (np.concatenate([of.validation, of.test]), of.train) for name, of in parts.items()}

    def _had(self, name: str, data: DataSet) -> bool:
        known = self.described.get(name, {}).get("sha256")
        return known is not None and known == data.describe()["sha256"]


def provenances(bundle: Bundle) -> list[Mapping[str, Any]]:
    """Where a bundle comes from: its first training, then each extension."""
    found = [bundle.provenance]
    while "of" in found[0]:
        found.insert(0, found[0]["of"])
    return found


def old_rows(bundle: Bundle, tasks: Sequence[Task], recipes: Sequence[Recipe | None], given: Any = None) -> OldRows:
    """Rows of the old tasks that no training of theirs saw, and the rows that they were learned from.

    Args:
        bundle: The old model.
        tasks: Its tasks.
        recipes: Those of its :func:`provenances`; ``None`` where there is none.
        given: Its data, by source if there are several; read from the paths in its recipes if ``None``. Where they are
            the data of a training, they are divided as they were then; otherwise all rows count.

    Raises:
        DataError: If the data of the first training cannot be found.
    """
    by_source = isinstance(given, Mapping) and not is_table(given)
    tables = {} if given is None else dict(given) if by_source else {bundle.sources[0]: given}
    trainings = _trainings(bundle, tasks, recipes)
    found = OldRows()
    apart: list[str] = []
    others: dict[str, list[str]] = {}
    for training in trainings:
        data = _data_of(training, bundle, given, tables)
        divided = training.divided(data)
        for name, dataset in data.items():
            mine = [task for task in training.tasks if dataset.has(task)]
            if not mine:
                continue
            rows = divided.get(name)
            kept, learned = rows or (np.arange(len(dataset)),) * 2
            key = name if training.is_first else f"{name} of {mine[0].name}"
            found.data[key] = dataset.describe()
            found.train[key] = dataset.source(mine, learned, [])
            if len(kept):
                found.kept[key] = dataset.source(mine, kept, [])
            names = [task.name for task in mine]
            apart += names if rows else []
            if not rows:
                others.setdefault(name, []).extend(names)
    measured = {task for source in found.kept.values() for task in source.tasks if bool(source.observed[task].any())}
    found.unmeasured = tuple(task.name for task in tasks if task.name not in measured)
    found.notes = _notes(apart, others, found.unmeasured)
    return found


def _trainings(bundle: Bundle, tasks: Sequence[Task], recipes: Sequence[Recipe | None]) -> list[_Training]:
    left = {task.name: task for task in tasks}
    found: list[_Training] = []
    for origin, recipe in reversed(list(zip(provenances(bundle), recipes, strict=True))):
        # A network that was put together by hand has no recipe: all tasks that no extension added are its own.
        mine = [name for name in left if recipe is None or name in recipe.tasks]
        found.append(_Training([left.pop(n) for n in mine], recipe, origin.get("data", {}), "of" not in origin))
    return found[::-1]


def _data_of(training: _Training, bundle: Bundle, given: Any, tables: Mapping[str, Any]) -> dict[str, DataSet]:
    """The data sets of a training, as far as they are known, opened as its tasks read them."""
    found = {}
    for name in bundle.sources if training.is_first else training.described:
        data = training.described.get(name, {}).get("path") if given is None else tables.get(name)
        if data is None and training.is_first:
            raise DataError(
                f"What changes for the old tasks is measured on rows of {name!r} with their labels, and the run "
                "does not say where they are: give --old-data, or leave the network frozen."
            )
        if data is None:
            continue
        found[name] = _opened(bundle, training.tasks, name, data)
        if training.recipe is not None:
            found[name].conditions = conditions_of(training.recipe)
    return found


def _opened(bundle: Bundle, tasks: Sequence[Task], name: str, data: Any) -> DataSet:
    if isinstance(data, DataSet):
        return data
    transform = bundle.transforms.get(name)
    if transform is None:
        raise DataError(f"The model reads arrays of {name!r}: give an ArrayData({name!r}, inputs, labels) as old_data.")
    targets = [target for task in tasks for target in task.targets]
    opened = open_table(data)
    return KnownTable(name, data, transform, [target for target in targets if target in opened])


def _notes(apart: Sequence[str], others: Mapping[str, Sequence[str]], unmeasured: Sequence[str]) -> list[str]:
    notes = []
    if apart := [name for name in apart if name not in unmeasured]:
        who = f" ({', '.join(apart)})" if others or unmeasured else ""
        notes.append(f"Old tasks{who} are measured on the rows that their training kept apart.")
    if others:
        who = f" ({', '.join(name for names in others.values() for name in names)})" if apart or unmeasured else ""
        notes.append(
            f"Old tasks{who} are measured on all rows of {', '.join(others)}, because it is not known which of them "
            "their training kept apart: these are other data than the run's, or were divided by groups and come "
            "without the run's other sources."
        )
    if unmeasured:
        notes.append(
            f"What changes for {', '.join(unmeasured)} is not measured, because there are no rows with such labels: "
            "give old data that have them. Their metrics from before the extension are left out of the model."
        )
    return notes
