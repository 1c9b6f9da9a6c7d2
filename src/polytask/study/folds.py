"""The protocol of a study: which rows train, choose and test, and what an arm gets to see of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polytask.data.batch import ArraySource
from polytask.data.sources import table_source
from polytask.data.splits import Split, given_split, holdout, k_folds
from polytask.data.text import TextTransform, as_table
from polytask.data.transform import TableTransform
from polytask.errors import DataError, TargetError
from polytask.records import StudyFold
from polytask.study.arm import PLAIN, FoldData
from polytask.study.several import SeveralData, rows_of, sets_of, split_of
from polytask.tasks.task import Task, task_from_options
from polytask.training.column_data import TextColumnData
from polytask.training.data_sets import DataSet, TableData
from polytask.training.dividing import to_stratify
from polytask.training.preparation import Prepared, prepare
from polytask.training.run import Plan
from polytask.training.text_data import TextData

__all__ = ["JudgedFold", "Planner", "Protocol", "label_groups", "make_fold", "whole_fold"]

Planner = Callable[[Prepared], Plan]
"""Makes the plan of the networks for prepared data."""


@dataclass(frozen=True)
class Protocol:
    """How rows are divided: by folds, or once and for all, for large data.

    Args:
        folds: Number of folds, at least 2; every row is tested once in each repetition. 0 stands for five; a fixed
            split has none.
        repeats: Repetitions with a new shuffle; of a fixed split, with new seeds of the trainings. 0 stands for one of
            folds, and for three of a fixed split: the verdicts there need them.
        validation: Share of the rows that are not tested which go to early stopping, tuning and choosing.
        group: Column of groups, none of which is on two sides.
        time: Column of times; every block of rows is tested by what came before it.
        seed: Of the splits and of all trainings.
        holdout: Instead of folds, one share of the rows for testing; with ``time``, the newest.
        split: Instead of folds, a column that says of each row ``train``, ``validation`` or ``test``.

    Raises:
        DataError: If two ways of dividing are asked for, or a share is not between 0 and 1.

    Note:
        Rows at random are dealt so that every part has its share of every class and of every range of numbers, for all
        tasks at once.
    """

    folds: int = 0
    repeats: int = 0
    validation: float = 0.15
    group: str | None = None
    time: str | None = None
    seed: int = 0
    holdout: float | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if self.group and self.time:
            raise DataError(
                f"Rows are divided by groups ({self.group!r}) or by time ({self.time!r}), not by both: give one."
            )
        if self.split and (self.holdout is not None or self.time):
            raise DataError(
                f"Column {self.split!r} says which rows are tested: give neither a holdout nor a time beside it."
            )
        if not 0 < self.validation < 1:
            raise DataError(
                "Trainings stop and arms are chosen by validation rows: their share of the rows that are not tested "
                f"lies between 0 and 1, got {self.validation}."
            )
        if self.holdout is not None and not 0 < self.holdout < 1:
            raise DataError(
                f"The share of rows that are held out for testing lies between 0 and 1, got {self.holdout}."
            )
        if self.folds and self.is_fixed:
            way = f"the rows that column {self.split!r} names" if self.split else f"a share of {self.holdout}"
            option = "split" if self.split else "holdout"
            raise DataError(
                f"Rows are tested in {self.folds} folds, or once, {way}: give either folds or {option} "
                f"(--folds or --{option})."
            )
        if not self.folds:
            object.__setattr__(self, "folds", _FOLDS)
        if self.time and self.repeats > 1 and not self.is_fixed:
            raise DataError(
                f"Rows divided by time ({self.time!r}) have one order, and folds of them cannot be repeated "
                f"{self.repeats} times: leave repeats out (--repeats)."
            )
        if not self.repeats:
            object.__setattr__(self, "repeats", _SEEDS if self.is_fixed else 1)

    @property
    def is_fixed(self) -> bool:
        """Whether the same rows are tested in every repetition."""
        return self.split is not None or self.holdout is not None

    @property
    def may_repeat(self) -> bool:
        """Whether time that is left can go into new shuffles."""
        return self.repeats == 1 and not self.time and not self.is_fixed

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that say how rows are divided, and are no inputs."""
        return tuple(column for column in (self.group, self.time, self.split) if column)

    def splits(self, data: DataSet, tasks: Sequence[Task]) -> list[tuple[int, int, Split]]:
        """Repetition, fold and rows, in order."""
        labels = None if self.time or self.split else to_stratify(data, tasks)
        if labels is not None and isinstance(data, SeveralData):
            labels |= {"": np.repeat([d.name for d in data.sets], [len(d) for d in data.sets])}
        criteria: dict[str, Any] = {
            "labels": labels,
            "groups": data.column(self.group) if self.group else None,
            "times": data.column(self.time) if self.time else None,
        }
        if self.split:
            fixed = given_split(data.column(self.split), self.split, self.validation, self.seed, criteria["groups"])
            return [(repeat, 0, fixed) for repeat in range(self.repeats)]
        if self.holdout is not None:
            inner = self.validation * (1 - self.holdout)
            fixed = holdout(len(data), validation=inner, test=self.holdout, seed=self.seed, **criteria)
            return [(repeat, 0, fixed) for repeat in range(self.repeats)]
        repeats = 1 if self.time else self.repeats
        found = k_folds(len(data), self.folds, validation=self.validation, repeats=repeats, seed=self.seed, **criteria)
        return [(i // self.folds, i % self.folds, split) for i, split in enumerate(found)]

    def seed_of(self, repeat: int, fold: int) -> int:
        """The seed of all trainings on a fold, the same for every arm."""
        return self.seed + 1000 * repeat + fold


_FOLDS = 5
_SEEDS = 3


@dataclass
class JudgedFold:
    """A fold with the rows that it is judged by, which only the study itself reads.

    Args:
        data: What the arms see.
        parts: The rows of ``validation`` and ``test`` by source and encoding, labels included; no entry for a part
            without rows.
        record: The fold in the record.
        groups: By source, the number of each test row's group, if rows are kept together.
    """

    data: FoldData
    parts: Mapping[str, Mapping[str, Mapping[str, ArraySource]]]
    record: StudyFold
    groups: Mapping[str, np.ndarray] | None = None


def make_fold(
    data: DataSet,
    tasks: Sequence[Task],
    planner: Planner,
    where: tuple[int, int],
    seed: int,
    split: Split,
    group: str | None = None,
) -> JudgedFold:
    """Fit codecs and transforms on the training rows, and make the sources of all parts.

    Args:
        data: The data.
        tasks: The tasks; copies of them are fitted.
        planner: Makes the networks' plan for prepared data.
        where: Repetition and fold.
        seed: Of the trainings.
        split: The rows.
        group: Column of groups, if rows are kept together.

    Raises:
        TargetError: If no task can be learned and tested.
    """
    made = [task_from_options(task.options()) for task in tasks]
    absent = {}
    for task in made:
        if reason := _why_absent(data, task, split):
            absent[task.name] = reason
    present = [task for task in made if task.name not in absent]
    if not present:
        raise TargetError("No task can be learned and tested on this fold: " + "; ".join(absent.values()))
    ready = _ready(data, present, split_of(data, split), planner, seed)
    plain = ready.plain
    parts = {
        part: {
            name: {"": source, (PLAIN if name in ready.plain_transforms else ""): plain[part][name]}
            for name, source in sources.items()
        }
        for part, sources in (("validation", ready.prepared.validation), ("test", ready.prepared.test))
        if sources
    }
    seen = replace(
        ready,
        prepared=replace(ready.prepared, test={}),
        plain={part: plain[part] for part in ("train", "validation")},
    )
    record = StudyFold(*where, seed, len(split.train), len(split.validation), len(split.test), absent)
    return JudgedFold(seen, parts, record, None if group is None else _groups(data, split, group))


def whole_fold(data: DataSet, tasks: Sequence[Task], planner: Planner, seed: int) -> FoldData:
    """All rows for training and none for anything else: what the final models learn from."""
    nothing = np.zeros(0, dtype=np.int64)
    made = [task_from_options(task.options()) for task in tasks]
    split = Split(np.arange(len(data)), nothing, nothing)
    present = [task for task in made if not _why_absent(data, task, split, needs_test=False)]
    whole = _ready(data, present, split_of(data, split), planner, seed)
    return replace(whole, plain={"train": whole.plain["train"], "validation": {}})


def _ready(data: DataSet, tasks: Sequence[Task], splits: Mapping[str, Split], planner: Planner, seed: int) -> FoldData:
    """Every part of every source that has a task, as networks and as plain models read it."""
    used = [d for d in sets_of(data) if any(d.has(task) for task in tasks)]
    prepared = prepare(used, list(tasks), lambda d, _: splits[d.name])
    # Copies, because the data sets' own ones are fitted anew on each fold.
    prepared.transforms = {name: TableTransform().load_state(t.state()) for name, t in prepared.transforms.items()}
    prepared.texts = {name: TextTransform().load_state(t.state()) for name, t in prepared.texts.items()}
    plain: dict[str, dict[str, ArraySource]] = {"train": {}, "validation": {}, "test": {}}
    transforms: dict[str, TableTransform] = {}
    for d in used:
        transform = _plain_transform(d, splits[d.name].train)
        if transform is not None:
            transforms[d.name] = transform
        for part, sources in plain.items():
            rows = getattr(splits[d.name], part)
            if len(rows):
                networks = getattr(prepared, part)[d.name]
                sources[d.name] = networks if transform is None else _encoded(d, tasks, transform, rows, networks)
    return FoldData(prepared, plain, transforms, planner(prepared), seed, planner)


def _groups(data: DataSet, split: Split, group: str) -> dict[str, np.ndarray]:
    """By source, the number of each test row's group, the same for a group that is in several."""
    codes = np.unique(data.column(group).astype(str), return_inverse=True)[1]
    return {name: codes[rows] for name, rows in rows_of(data, split.test).items()}


def label_groups(data: DataSet, tasks: Sequence[Task], rows: np.ndarray, group: str) -> dict[str, np.ndarray]:
    """By task, the number of the group that each of its losses on these rows belongs to, see :func:`losses_of`.

    Args:
        data: The data.
        tasks: The tasks, as fitted on the fold.
        rows: The rows, such as a fold's validation rows.
        group: Column of groups.
    """
    codes = np.unique(data.column(group).astype(str), return_inverse=True)[1]
    found = {}
    for task in tasks:
        observed = np.asarray(task.encode(data.labels(task, rows))[1])
        seen = np.nonzero(observed)[0]
        found[task.name] = codes[rows][np.unique(seen) if task.of_elements else seen]
    return found


def _why_absent(data: DataSet, task: Task, split: Split, *, needs_test: bool = True) -> str:
    """Why a task cannot be learned or tested with these rows; empty if it can."""
    try:
        task.fit(data.labels(task, split.train))
    except TargetError as error:
        return str(error)
    if not needs_test:
        return ""
    try:
        _, observed = task.encode(data.labels(task, split.test))
        task.encode(data.labels(task, split.validation))
    except TargetError as error:
        return str(error)
    return "" if observed.any() else f"Task {task.name!r} has no label among the test rows of this fold."


def _plain_transform(data: DataSet, rows: np.ndarray) -> TableTransform | None:
    """How plain models read the rows; texts as the words that they hold."""
    if isinstance(data, TextData | TextColumnData):
        table = as_table(_words(data, np.arange(len(data))))
        return TableTransform(list(table), kinds=dict.fromkeys(table, "words")).fit(table, rows)
    if not isinstance(data, TableData):
        return None
    return TableTransform(data.inputs, kinds=data.transform.kinds, scaling="standard").fit(data.table, rows)


def _encoded(
    data: DataSet, tasks: Sequence[Task], transform: TableTransform, rows: np.ndarray, networks: ArraySource
) -> ArraySource:
    """The rows as plain models read them; of texts with the labels of what the networks read."""
    if isinstance(data, TextData | TextColumnData):
        return replace(networks, inputs=transform.transform(as_table(_words(data, rows))))
    assert isinstance(data, TableData)
    mine = [task for task in tasks if data.has(task)]
    return table_source(data.name, data.table, mine, transform, rows, row_weights=data.row_weights)


def _words(data: TextData | TextColumnData, rows: np.ndarray) -> list[list[str]]:
    """The words of each row."""
    return [data.texts[row] for row in rows] if isinstance(data, TextData) else data.words(rows)
