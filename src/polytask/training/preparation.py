"""From data sets and tasks to sources that can be trained on: split, codecs and transforms fitted on training rows."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from polytask.data.batch import ArraySource
from polytask.data.checks import check_targets
from polytask.data.sources import array_source, encode_labels, labels_of, table_source
from polytask.data.splits import Split
from polytask.data.tables import Table, open_table
from polytask.data.transform import TableTransform
from polytask.errors import DataError, InputError, TargetError, UnknownNameError
from polytask.models.inputs import Field, InputShape
from polytask.models.model import View, select_view
from polytask.shapes import Inputs
from polytask.tasks.task import Task

__all__ = ["ArrayData", "DataSet", "Prepared", "Splitter", "TableData", "prepare"]

_PIECE = 1 << 16
"""Rows that are hashed at once, so that the hashes of a whole column are never held."""

Splitter = Callable[["DataSet", Sequence[Task]], Split]
"""Divides the rows of a data set into training, validation and test rows."""


class DataSet(ABC):
    """One data set of a run, before anything is learned from it."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def has(self, task: Task) -> bool:
        """Whether it holds labels of the task."""

    @property
    @abstractmethod
    def label_names(self) -> Sequence[str]:
        """What a task's target could be."""

    @abstractmethod
    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """Labels of the task, in the user's units."""

    @abstractmethod
    def column(self, name: str) -> np.ndarray:
        """Values to split by: groups or times.

        Raises:
            DataError: If there is no such column.
        """

    @abstractmethod
    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Learn from the training rows how inputs become tensors."""

    @abstractmethod
    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The inputs and weights of the given rows as tensors."""

    def check(self, tasks: Sequence[Task]) -> None:  # noqa: B027
        """Raise if the answer is among the questions; nothing to check by default.

        Raises:
            InputError: If an input gives a target away.
        """

    def source(self, tasks: Sequence[Task], rows: np.ndarray, unknown: list[str] | None = None) -> ArraySource:
        """The given rows as tensors, with their labels.

        Args:
            tasks: Fitted tasks; those without labels here are left out.
            rows: Positions of the rows.
            unknown: For rows that nothing is learned from: where to note labels of classes that training did not see.
                They count as not observed then. If ``None``, they are an error.
        """
        labels: dict[str, np.ndarray] = {}
        for task in tasks:
            if self.has(task):
                labels[task.name] = self.labels(task, rows)
                if unknown is not None:
                    labels[task.name] = _without_unknown(task, labels[task.name], unknown)
        targets, observed = encode_labels(labels, tasks)
        return replace(self.inputs_of(rows), targets=targets, observed=observed)

    @abstractmethod
    def shape(self) -> InputShape:
        """Shape of the inputs; known after :meth:`fit`."""

    @abstractmethod
    def view(self, task: Task) -> View | None:
        """The part of the inputs that the task reads; ``None`` for all."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Where the data came from: rows, columns, a hash."""

    transform: TableTransform | None = None


class TableData(DataSet):
    """A table: input columns and target columns.

    Args:
        name: The source's name.
        table: Anything that :func:`~polytask.data.tables.open_table` opens.
        inputs: Input columns; all that are neither targets nor dropped if ``None``.
        drop: Columns that no task may read.
        targets: All target columns, none of which may be an input.
        row_weights: Column of factors on the losses of each row.
        allow: Inputs that may be copies of a target.
        options: Options of the :class:`~polytask.data.transform.TableTransform`.

    Raises:
        InputError: If an input or dropped column is not there.
        TargetError: If a target is named as an input too.
    """

    def __init__(
        self,
        name: str,
        table: Any,
        *,
        inputs: Sequence[str] | None = None,
        drop: Sequence[str] = (),
        targets: Sequence[str] = (),
        row_weights: str | None = None,
        allow: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
    ):
        self.name = name
        self.origin = str(table) if isinstance(table, str | Path) else None
        self.table: Table = open_table(table)
        self.row_weights = row_weights
        self.allow = tuple(allow)
        for column in (*drop, *(inputs or ()), *([row_weights] if row_weights else ())):
            if column not in self.table:
                raise InputError(str(UnknownNameError(f"column of {self.table.origin}", column, self.table.names)))
        if both := sorted({*targets} & {*(inputs or ())}):
            raise TargetError(f"{', '.join(both)}: a target cannot be an input too. Take it out of --inputs.")
        hidden = {*drop, *targets, row_weights}
        self.inputs = [c for c in (self.table.names if inputs is None else inputs) if c not in hidden]
        if not self.inputs:
            raise InputError(f"{self.table.origin} has no input column left beside targets and dropped columns.")
        self.transform: TableTransform = TableTransform(self.inputs, **(options or {}))

    def __len__(self) -> int:
        return len(self.table)

    def has(self, task: Task) -> bool:
        """Whether all of the task's target columns are here."""
        return task.source in (None, self.name) and all(target in self.table for target in task.targets)

    @property
    def label_names(self) -> Sequence[str]:
        """All columns."""
        return self.table.names

    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """The target columns of the task."""
        return labels_of(self.table, task, rows)

    def column(self, name: str) -> np.ndarray:
        """A column's values."""
        if name not in self.table:
            raise DataError(str(UnknownNameError("column to split by", name, self.table.names)))
        return self.table.column(name).to_numpy()

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Fit the transform."""
        self.transform.fit(self.table, rows)
        notes.extend(self.transform.notes)

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The columns as tensors."""
        return table_source(self.name, self.table, [], self.transform, rows, row_weights=self.row_weights)

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise if an input column is a copy of a target."""
        check_targets(self.table, tasks, self.inputs, self.allow)

    def shape(self) -> InputShape:
        """Fields ``numeric`` and ``categorical``."""
        codes = {"categorical": tuple(self.transform.cardinalities.values())}
        sizes = {"numeric": self.transform.n_numeric, "categorical": len(codes["categorical"])}
        return InputShape({name: Field((n,), codes.get(name, ())) for name, n in sizes.items() if n})

    def view(self, task: Task) -> View | None:
        """The encoded columns of the task's own inputs."""
        if task.inputs is None:
            return None
        for column in task.inputs:
            if column not in self.inputs:
                raise InputError(f"Task {task.name!r} reads {column!r}, which is no input column of {self.name!r}.")
        return self.transform.positions(task.inputs)

    def describe(self) -> dict[str, Any]:
        """Path, size and hash."""
        return {
            "path": self.origin,
            "rows": len(self.table),
            "columns": list(self.table.names),
            "inputs": list(self.inputs),
            "sha256": _hash_of_columns(self.table.column(name) for name in self.table.names),
        }


class ArrayData(DataSet):
    """Arrays or tensors: inputs of N rows and labels by task.

    Args:
        name: The source's name.
        inputs: ``[N, ...]``, or a dict of such arrays.
        labels: Labels by task name, ``[N]`` or ``[N, K]``.
        columns: Values by name to split by: groups, times.
    """

    def __init__(
        self,
        name: str,
        inputs: Any,
        labels: Mapping[str, Any],
        columns: Mapping[str, Any] | None = None,
    ):
        self.name, self.inputs, self._labels = name, inputs, labels
        self.columns = {key: np.asarray(values) for key, values in (columns or {}).items()}
        first = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
        self._n_rows = len(first)
        for key, values in {**labels, **self.columns}.items():
            if len(values) != self._n_rows:
                raise DataError(f"{key!r} has {len(values)} values for the {self._n_rows} rows of {name!r}.")

    def __len__(self) -> int:
        return self._n_rows

    def has(self, task: Task) -> bool:
        """Whether labels of the task were given."""
        return task.source in (None, self.name) and task.name in self._labels

    @property
    def label_names(self) -> Sequence[str]:
        """Names of the tasks whose labels were given."""
        return tuple(self._labels)

    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """The given labels."""
        labels = np.asarray(self._labels[task.name])
        return labels if rows is None else labels[rows]

    def column(self, name: str) -> np.ndarray:
        """Values to split by."""
        if name not in self.columns:
            raise DataError(str(UnknownNameError("column to split by", name, self.columns)))
        return self.columns[name]

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Arrays are used as they are."""

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The arrays as tensors."""
        return array_source(self.name, self.inputs, {}, [], rows)

    def shape(self) -> InputShape:
        """Shape of one row."""
        return InputShape.of(self.inputs_of(np.arange(1)).inputs)

    def view(self, task: Task) -> View | None:
        """The fields that the task reads."""
        if task.inputs is None:
            return None
        fields = self.shape().fields
        unknown = [name for name in task.inputs if name not in fields]
        if unknown:
            raise InputError(
                f"Task {task.name!r} reads {unknown}, which {self.name!r} does not have; it has {sorted(fields)}."
            )
        return {name: tuple(range(fields[name].shape[0])) for name in task.inputs}

    def describe(self) -> dict[str, Any]:
        """Size."""
        return {"path": None, "rows": len(self), "columns": sorted(self.shape().fields), "inputs": None, "sha256": None}


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

    def only(self, names: Sequence[str]) -> Prepared:
        """The same data for some of the tasks; sources without their labels are left out."""
        kept = [task for task in self.tasks if task.name in names]

        def part(sources: Mapping[str, ArraySource]) -> dict[str, ArraySource]:
            chosen = {}
            for name, source in sources.items():
                mine = [task.name for task in kept if task.name in source.tasks]
                if mine:
                    chosen[name] = ArraySource(
                        name,
                        source.inputs,
                        {task: source.targets[task] for task in mine},
                        {task: source.observed[task] for task in mine},
                        source.row_weights,
                    )
            return chosen

        train = part(self.train)
        return Prepared(
            tasks=kept,
            train=train,
            validation=part(self.validation),
            test=part(self.test),
            shapes={name: self.shapes[name] for name in train},
            transforms={name: t for name, t in self.transforms.items() if name in train},
            views={task: view for task, view in self.views.items() if task in names},
            splits=self.splits,
            data=self.data,
            notes=self.notes,
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
    for what, names in (("data set", [d.name for d in data]), ("task", [t.name for t in tasks])):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"Each {what} needs a name of its own; {', '.join(twice)} comes twice.")
    if not tasks:
        raise TargetError("There is no task: name at least one target.")
    notes: list[str] = []
    every, tasks = list(tasks), [task for task in tasks if not task.of_inputs]
    rebuilding = [task for task in every if task.of_inputs]
    holders = {task.name: _holders(task, data) for task in tasks}
    for d in data:
        if not any(d in holders[task.name] for task in tasks) and not any(_reads(task, d) for task in rebuilding):
            raise DataError(f"{d.name!r} has labels of no task; leave it out, or name its targets.")
        d.check([task for task in tasks if d in holders[task.name]])
    splits = {d.name: splitter(d, [task for task in tasks if d in holders[task.name]]) for d in data}
    for task in tasks:
        task.fit(_joined([d.labels(task, splits[d.name].train) for d in holders[task.name]]))
    for d in data:
        d.fit(tasks, splits[d.name].train, notes)

    def sources(part: str) -> dict[str, ArraySource]:
        made: dict[str, ArraySource] = {}
        for d in data:
            rows = getattr(splits[d.name], part)
            unknown: list[str] = []
            if len(rows):
                made[d.name] = d.source(tasks, rows, None if part == "train" else unknown)
                notes.extend(f"{part} rows of {d.name!r}: {text}" for text in unknown)
        return made

    parts = {part: sources(part) for part in ("train", "validation", "test")}
    for part in ("validation", "test"):
        notes.extend(_unheld(tasks, parts[part], part))

    views: dict[str, dict[str, View]] = {}
    for task in every:
        for d in data:
            if (_reads(task, d) if task.of_inputs else d.has(task)) and (view := d.view(task)) is not None:
                views.setdefault(task.name, {})[d.name] = view
    for task in rebuilding:
        parts = _with_inputs_as_targets(task, parts, [d for d in data if _reads(task, d)], views.get(task.name, {}))
    return Prepared(
        tasks=every,
        **parts,
        shapes={d.name: d.shape() for d in data},
        transforms={d.name: d.transform for d in data if d.transform is not None},
        views=views,
        splits=splits,
        data={d.name: d.describe() for d in data},
        notes=notes,
    )


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


def _without_unknown(task: Task, labels: np.ndarray, notes: list[str]) -> np.ndarray:
    """The labels with ``None`` for classes that training did not see."""
    unknown = ~task.is_known(labels)
    if not unknown.any():
        return labels
    values, counts = np.unique(labels[unknown].astype(str), return_counts=True)
    listed = ", ".join(f"{value} ({count})" for value, count in list(zip(values, counts, strict=True))[:5])
    notes.append(
        f"{unknown.sum()} labels of task {task.name!r} are of classes that no training row has, and count as "
        f"missing: {listed}{', ...' if len(values) > 5 else ''}. A stratified split keeps rare classes in training."
    )
    kept = labels.astype(object)
    kept[unknown] = None
    return kept


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


def _hash_of_columns(columns: Any) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(str(column.name).encode())
        for start in range(0, len(column), _PIECE):
            piece = column.iloc[start : start + _PIECE]
            digest.update(pd.util.hash_pandas_object(piece, index=False).to_numpy().tobytes())
    return digest.hexdigest()
