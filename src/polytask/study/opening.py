"""What a study is about: its data, tasks and networks, before any row is divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polytask.data.checks import check_targets
from polytask.data.long import LongTable
from polytask.errors import RecipeError, TargetError
from polytask.recipe import Recipe
from polytask.study.several import SeveralData
from polytask.study.warning import warning
from polytask.tasks.task import Task, task_from_options
from polytask.training.data_sets import DataSet, TableData
from polytask.training.opening import is_table, make_tasks, open_data

__all__ = ["LongData", "Question", "open_question", "study_recipe"]


@dataclass
class Question:
    """The data and the tasks of a study.

    Args:
        data: The data.
        tasks: The tasks, fitted on all rows, classes settled.
        notes: By task, how its kind was found.
        warnings: What a reader should know of the data.
    """

    data: DataSet
    tasks: list[Task]
    notes: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[Mapping[str, Any]] = ()

    @property
    def observed(self) -> dict[str, np.ndarray]:
        """By task, which rows have a label."""
        found = {}
        for task in self.tasks:
            observed = task.encode(self.data.labels(task))[1]
            found[task.name] = np.asarray(observed.reshape(len(observed), -1).any(1))
        return found


class LongData(TableData):
    """A long table as a data set: each value of a column is a task of its own.

    Args:
        plain: The table as it is.
        table: The same with a column for each task.
        asked: The tasks of the plain table.
    """

    def __init__(self, plain: TableData, table: LongTable, asked: Sequence[Task]):
        super().__init__(
            plain.name,
            table,
            inputs=[name for name in plain.inputs if name != table.by],
            targets=list(table.target_of),
            row_weights=plain.row_weights,
            allow=plain.allow,
            options={"kinds": plain.transform.kinds, "scaling": plain.transform.scaling},
        )
        self.plain, self.long, self.asked = plain, table, list(asked)

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise if an input is a copy of a target, looked for once and not for each value."""
        check_targets(self.plain.table, self.asked, self.inputs, self.allow)

    def describe(self) -> dict[str, Any]:
        """The plain table."""
        return {**self.plain.describe(), "inputs": list(self.inputs), "by": self.long.by}


_OF_SOURCES = ("inputs", "drop", "kinds", "scaling", "row_weights", "allow", "reads", "streamed")


def study_recipe(data: Any, targets: Any, settings: Mapping[str, Any], columns: Sequence[str]) -> Recipe:
    """The networks' side of the study as a recipe; columns that say how rows are divided are inputs only if named."""
    if isinstance(data, Recipe):
        known = {**data.plain(), **settings, "tasks": data.tasks}
        known["data"] = {
            name: _hiding(spec.model_dump(exclude_defaults=True), columns) for name, spec in data.data.items()
        }
        return Recipe(**known)
    known = dict(settings)
    source: dict[str, Any] = {key: known.pop(key) for key in _OF_SOURCES if key in known}
    names = {"data": None}
    if isinstance(data, str | Path):
        names, source["path"] = {Path(data).stem: None}, str(data)
    elif isinstance(data, DataSet):
        names = {data.name: None}
    elif isinstance(data, list) and data and all(isinstance(d, DataSet) for d in data):
        names = dict.fromkeys(d.name for d in data)
    elif isinstance(data, Mapping) and not is_table(data):
        names = dict.fromkeys(data)
    return Recipe(tasks=targets, data=dict.fromkeys(names, _hiding(source, columns)), **known)


def _hiding(source: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Settings of a source that drop these columns unless they are named as inputs."""
    drop, inputs = source.get("drop") or (), source.get("inputs") or ()
    return {**source, "drop": [*drop, *(c for c in columns if c not in inputs and c not in drop)]}


def open_question(recipe: Recipe, given: Any, by: str | None = None, fewest: int = 10) -> Question:
    """Open the data of a study and make its tasks.

    Args:
        recipe: Names the tasks and says how inputs are read.
        given: The data.
        by: Column of a long table that says which task a row is of.
        fewest: Labels that a value of ``by`` needs to become a task.

    Raises:
        PolytaskError: If data or tasks cannot be used.
    """
    data_sets = open_data(recipe, given)
    tasks, notes = make_tasks(recipe, data_sets)
    data = data_sets[0] if len(data_sets) == 1 else SeveralData(data_sets, tasks)
    for task in tasks:
        _fit_whole(task, data)
    by_task = {task.name: note for task in tasks for note in notes if note.startswith(f"Task {task.name!r} ")}
    # Of very many tasks, one sentence says it of all.
    of_many = [warning("kinds", "note", note) for note in notes if note not in by_task.values()]
    question = Question(data, tasks, by_task) if by is None else _by_value(data, tasks, by_task, by, fewest)
    question.warnings = [*of_many, *question.warnings]
    return question


def _fit_whole(task: Task, data: DataSet) -> None:
    """Fit a task on all rows and settle its classes: they are part of the question, and a fold may lack one of them."""
    task.fit(data.labels(task))
    option, fitted = task.settled
    if option and not getattr(task, option):
        setattr(task, option, tuple(getattr(task, fitted).names))


def _by_value(data: DataSet, asked: Sequence[Task], notes: Mapping[str, str], by: str, fewest: int) -> Question:
    """Each task that was asked for, once for each value of a column."""
    if not isinstance(data, TableData):
        raise RecipeError(f"Tasks by {by!r} are made of the rows of one table, got {data.name}.")
    targets = {}
    for task in asked:
        if len(task.targets) != 1:
            raise RecipeError(
                f"Task {task.name!r} has {len(task.targets)} target columns; tasks by {by!r} have one each."
            )
        targets[task.targets[0]] = task
    table = LongTable(data.table, by, list(targets), fewest)
    long = LongData(data, table, asked)
    tasks, constant = [], []
    for name, target in table.target_of.items():
        made = task_from_options({**targets[target].options(), "name": name, "target": name})
        try:
            made.fit(long.labels(made))
            tasks.append(made)
        except TargetError:  # the asked task's own labels were read, so they are all the same here
            constant.append(name)
    own = {task.name: notes.get(targets[table.target_of[task.name]].name, "") for task in tasks}
    few = [f"{name} ({count})" for name, count in table.left_out.items()]
    return Question(
        long,
        tasks,
        own,
        [*_none_of(by, f"fewer than {fewest} labels", few), *_none_of(by, "labels that are all the same", constant)],
    )


def _none_of(by: str, why: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """A note on values that no task is made of."""
    if not names:
        return []
    more = ", ..." if len(names) > 5 else ""
    words = f"No task is made of {len(names)} values of {by!r} with {why}: {', '.join(names[:5])}{more}."
    return [warning("few rows", "note", words, columns=[by])]
