"""From data sets and tasks to sources that can be trained on: split, codecs and transforms fitted on training rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from polytask.data.batch import ArraySource
from polytask.data.decoding import FileTransform
from polytask.data.learning import of_source
from polytask.data.splits import Split
from polytask.data.text import TextTransform
from polytask.data.transform import TableTransform
from polytask.errors import DataError, TargetError, UnknownNameError
from polytask.models.inputs import InputShape
from polytask.models.views import View, select_view
from polytask.shapes import Inputs, labelled
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet

__all__ = ["Prepared", "Splitter", "prepare"]

Splitter = Callable[[DataSet, Sequence[Task]], Split]
"""Divides the rows of a data set into training, validation and test rows."""


@dataclass
class Prepared:
    """Everything that a training needs, and nothing of the test rows in it.

    Args:
        tasks: Fitted tasks.
        train: Training sources by name; so for ``validation`` and ``test``, where a source without rows is left out.
        shapes: Shape of each source's inputs.
        transforms: Fitted transforms of the sources that are tables.
        views: Parts of the inputs of tasks that do not read all.
        splits: Row positions of each source.
        data: Description of each source.
        notes: What the reader should know.
        groups: The levels of each column of groups; a group's code is its place among them.
        texts: Fitted transforms of the sources that are texts.
        files: Fitted transforms of the sources whose rows are files.
    """

    tasks: list[Task]
    train: dict[str, ArraySource]
    validation: dict[str, ArraySource]
    test: dict[str, ArraySource]
    shapes: dict[str, InputShape]
    transforms: dict[str, TableTransform]
    views: dict[str, dict[str, View]]
    splits: dict[str, Split]
    data: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    groups: dict[str, list[Any]] = field(default_factory=dict)
    texts: dict[str, TextTransform] = field(default_factory=dict)
    files: dict[str, FileTransform] = field(default_factory=dict)

    def only(self, names: Sequence[str]) -> Prepared:
        """The same data for some of the tasks; rows and sources without their labels are left out."""
        kept = [task for task in self.tasks if task.name in names]

        def part(sources: Mapping[str, ArraySource]) -> dict[str, ArraySource]:
            chosen = {}
            for name, source in sources.items():
                mine = [task.name for task in kept if task.name in source.tasks]
                if not mine:
                    continue
                observed = {task: source.observed[task] for task in mine}
                targets = {task: source.targets[task] for task in mine}
                weights = {task: weights for task, weights in source.task_weights.items() if task in mine}
                ranked = {task: groups for task, groups in source.ranked.items() if task in mine}
                own = replace(source, targets=targets, observed=observed, task_weights=weights, ranked=ranked)
                # Steps on rows without a label would teach nothing and cost as much.
                some = torch.stack([labelled(o) for o in observed.values()]).any(0)
                if bool(some.any()):
                    chosen[name] = own if bool(some.all()) else own.take(some.nonzero().squeeze(1))
            return chosen

        train = part(self.train)
        return Prepared(
            tasks=kept,
            train=train,
            validation=part(self.validation),
            test=part(self.test),
            shapes={name: self.shapes[name] for name in train},
            transforms={name: t for name, t in self.transforms.items() if name in train},
            texts={name: t for name, t in self.texts.items() if name in train},
            files={name: t for name, t in self.files.items() if name in train},
            views={task: view for task, view in self.views.items() if task in names},
            splits=self.splits,
            data=self.data,
            notes=self.notes,
            groups=self.groups,
        )


def prepare(data: Sequence[DataSet], tasks: Sequence[Task], splitter: Splitter) -> Prepared:
    """Split each data set, fit codecs and transforms on the training rows, and make the sources.

    Args:
        data: The data sets, with distinct names.
        tasks: The tasks, not fitted; they are fitted in place.
        splitter: Divides the rows of each data set.

    Raises:
        TargetError: If a task has no labels anywhere.
        InputError: If an input is a copy of a target, or cannot be used.
        DataError: If names are not distinct, or a data set has labels of no task.
    """
    _check_names(data, tasks)
    notes: list[str] = []
    every, tasks = list(tasks), [task for task in tasks if not task.of_inputs]
    rebuilding = [task for task in every if task.of_inputs]
    holders = {task.name: _holders(task, data) for task in tasks}
    _check_inputs(data, tasks, rebuilding, holders)
    splits = {d.name: splitter(d, [task for task in tasks if d in holders[task.name]]) for d in data}
    for task in tasks:
        with _rows_of_the_table(task, holders[task.name]):
            task.fit(_joined([d.labels(task, splits[d.name].train) for d in holders[task.name]]))
    for d in data:
        own: list[str] = []
        d.fit(tasks, splits[d.name].train, own)
        notes += [of_source(note, d.name) for note in own] if len(data) > 1 else own

    parts = {part: _sources_of(part, data, tasks, holders, splits, notes) for part in ("train", "validation", "test")}
    for part in ("validation", "test"):
        notes.extend(_unheld(tasks, parts[part], part))

    views = _views(every, data)
    for task in rebuilding:
        parts = _with_inputs_as_targets(task, parts, [d for d in data if _reads(task, d)], views.get(task.name, {}))
    return Prepared(
        tasks=every,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        shapes={d.name: d.shape() for d in data},
        transforms={d.name: d.transform for d in data if d.transform is not None},
        texts={d.name: d.text for d in data if d.text is not None},
        files={d.name: d.file for d in data if d.file is not None},
        views=views,
        splits=splits,
        data={d.name: d.describe() for d in data},
        notes=notes,
    )


def _check_names(data: Sequence[DataSet], tasks: Sequence[Task]) -> None:
    for what, names in (("data set", [d.name for d in data]), ("task", [t.name for t in tasks])):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"Each {what} needs a name of its own; {', '.join(twice)} comes twice.")
    if not tasks:
        raise TargetError("There is no task: name at least one target.")


def _check_inputs(
    data: Sequence[DataSet], tasks: Sequence[Task], rebuilding: Sequence[Task], holders: Mapping[str, Sequence[DataSet]]
) -> None:
    """Raise if a data set is of no use to any task, or its inputs give a target away.

    Raises:
        DataError: If it has labels of no task, and no task rebuilds its inputs.
        InputError: If an input is a copy of a target.
    """
    for d in data:
        mine = [task for task in tasks if d in holders[task.name]]
        if not mine and not any(_reads(task, d) for task in rebuilding):
            named = ", ".join(task.name for task in tasks[:5]) + (", ..." if len(tasks) > 5 else "")
            raise DataError(
                f"Source {d.name!r} has no labels of any task ({named}): leave it out, or name a target column of it."
            )
        d.check(mine)


def _sources_of(
    part: str,
    data: Sequence[DataSet],
    tasks: Sequence[Task],
    holders: Mapping[str, Sequence[DataSet]],
    splits: Mapping[str, Split],
    notes: list[str],
) -> dict[str, ArraySource]:
    """The rows of one part, by data set; those without a row in it are left out.

    Classes that training did not see are an error among the training rows, and elsewhere a note and a missing label.
    """
    made: dict[str, ArraySource] = {}
    for d in data:
        rows = getattr(splits[d.name], part)
        if not len(rows):
            continue
        unknown: list[str] = []
        with contextlib.ExitStack() as stack:
            for task in tasks:
                stack.enter_context(_rows_of_the_table(task, [d] if d in holders[task.name] else []))
            made[d.name] = d.source(tasks, rows, None if part == "train" else unknown)
        notes.extend(f"{part} rows of {d.name!r}: {text}" for text in unknown)
    return made


@contextlib.contextmanager
def _rows_of_the_table(task: Task, holders: Sequence[DataSet]) -> Iterator[None]:
    """Inside, a label that cannot be used is named by its row in the table, not by that among the rows of a part."""
    try:
        yield
    except TargetError:
        for d in holders:
            replace(task).fit(d.labels(task))
        raise


def _views(tasks: Sequence[Task], data: Sequence[DataSet]) -> dict[str, dict[str, View]]:
    """By task and source, the part of the inputs that the task reads, where it does not read all."""
    views: dict[str, dict[str, View]] = {}
    for task in tasks:
        for d in data:
            if (_reads(task, d) if task.of_inputs else d.has(task)) and (view := d.view(task)) is not None:
                views.setdefault(task.name, {})[d.name] = view
    return views


def _reads(task: Task, data: DataSet) -> bool:
    """Whether a task whose targets are the inputs learns from this data set."""
    return task.source in (None, data.name)


def _with_inputs_as_targets(
    task: Task, parts: Mapping[str, dict[str, ArraySource]], data: Sequence[DataSet], views: Mapping[str, View]
) -> dict[str, dict[str, ArraySource]]:
    """The sources with the inputs as targets of one more task, fitted on the training rows; every row is observed.

    Raises:
        TargetError: If no data set is read, or their inputs differ.
    """
    names = [d.name for d in data]
    if apart := [name for name in names if not parts["train"][name].is_in_memory]:
        raise TargetError(f"{task.who} holds all inputs in memory: take `streamed` out of {apart[0]!r}, or the task.")
    if not names:
        raise TargetError(f"{task.who}: no data set is named {task.source!r}.")
    if len({str(d.shape().to_json()) for d in data}) > 1:
        raise TargetError(
            f"{task.who} rebuilds inputs of one shape, and those of {', '.join(names)} differ: "
            "give one such task for each source, with `source`."
        )

    def rows_of(source: ArraySource) -> Inputs:
        # A batch's inputs, because that is how the network reads them: images as numbers in 0 to 1.
        return select_view(source.batch(torch.arange(len(source))).inputs, views.get(source.name))

    train = [rows_of(parts["train"][name]) for name in names]
    named = [rows if isinstance(rows, dict) else {"": rows} for rows in train]
    joined = {key: torch.cat([rows[key] for rows in named]) for key in named[0]}
    task.fit_inputs(joined if isinstance(train[0], dict) else joined[""])
    changed: dict[str, dict[str, ArraySource]] = {}
    for part, sources in parts.items():
        changed[part] = dict(sources)
        for name in names:
            if name in sources:
                source = sources[name]
                targets, observed = (torch.from_numpy(array) for array in task.encode_inputs(rows_of(source)))
                changed[part][name] = replace(
                    source,
                    targets={**source.targets, task.name: targets},
                    observed={**source.observed, task.name: observed},
                )
    return changed


def _holders(task: Task, data: Sequence[DataSet]) -> list[DataSet]:
    """The data sets that have labels of the task.

    Raises:
        TargetError: If there is none.
    """
    if found := [d for d in data if d.has(task)]:
        return found
    asked = [d for d in data if task.source in (None, d.name)]
    if not asked:
        raise TargetError(
            f"Task {task.name!r}: " + str(UnknownNameError("source", str(task.source), [d.name for d in data]))
        )
    known = [name for d in asked for name in d.label_names]
    missing = next((target for target in task.targets if target not in known), task.name)
    raise TargetError(f"Task {task.name!r}: " + str(UnknownNameError("target column", missing, known)))


def _unheld(tasks: Sequence[Task], sources: Mapping[str, ArraySource], part: str) -> list[str]:
    """A note on the tasks that have no label at all in a part that has rows."""
    if not sources:
        return []
    held = {name for source in sources.values() for name in source.tasks if bool(source.observed[name].any())}
    without = [task.name for task in tasks if task.name not in held]
    what = {"validation": "early stopping does not look at them", "test": "they have no test metric"}[part]
    return [f"No {part} row has a label of {', '.join(without)}: {what}."] if without else []


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    return (
        np.concatenate([part.astype(object) for part in parts])
        if len({p.dtype for p in parts}) > 1
        else np.concatenate(parts)
    )
