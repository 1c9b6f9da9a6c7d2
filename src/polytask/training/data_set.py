"""What a data set of a run is, before anything is learned from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from polytask.data.batch import ArraySource
from polytask.data.decoding import FileTransform
from polytask.data.labels import encode_labels
from polytask.data.text import TextTransform
from polytask.data.transform import TableTransform
from polytask.errors import DataError, InputError, TargetError, UnknownNameError
from polytask.models.inputs import InputShape
from polytask.models.views import View
from polytask.shapes import object_array
from polytask.tasks.task import Task

__all__ = ["DataSet", "one_value_a_row"]


class DataSet(ABC):
    """One data set of a run, before anything is learned from it."""

    name: str
    transform: TableTransform | None = None
    """How its columns become tensors, if it is a table."""
    text: TextTransform | None = None
    """How its words become codes, if it is texts."""
    file: FileTransform | None = None
    """How its files become tensors, if a row is a file."""
    conditions: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """Per task that is only defined on some rows, the values that other columns have there."""

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

    @property
    def column_names(self) -> Sequence[str]:
        """Names that :meth:`column` takes."""
        return self.label_names

    @abstractmethod
    def column(self, name: str) -> np.ndarray:
        """A value for each row: its group, its time, its weight.

        Raises:
            DataError: If there is no such column, or it holds lists.
        """

    @abstractmethod
    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Learn from the training rows how inputs become tensors."""

    @abstractmethod
    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The inputs and weights of the given rows as tensors."""

    def check(self, tasks: Sequence[Task]) -> None:  # noqa: B027
        """Raise if an input gives a target away; by default there is nothing to check.

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
        for task in tasks:
            if task.name in labels and task.of_pixels:
                task.check_images(self._image_extents(task))
        targets, observed = encode_labels(labels, tasks)
        return replace(self.inputs_of(rows), targets=targets, observed=observed)

    def _image_extents(self, task: Task) -> tuple[int, ...]:
        """Height and width of the images.

        Raises:
            InputError: If the inputs are no images.
        """
        shapes = [field.shape for field in self.shape().fields.values()]
        if len(shapes) != 1 or len(shapes[0]) not in (2, 3):
            raise InputError(
                f"{task.who} has labels for the pixels of images, and {self.name!r} has inputs of {shapes}."
            )
        return shapes[0][-2:]

    @abstractmethod
    def shape(self) -> InputShape:
        """Shape of the inputs; known after :meth:`fit`."""

    @abstractmethod
    def view(self, task: Task) -> View | None:
        """The part of the inputs that the task reads; ``None`` for all."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Where the data came from: rows, columns, a hash."""

    def defined(self, task: Task, labels: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """The labels, missing where the task is not defined.

        Raises:
            TargetError: If a condition names no column, or no row fulfils it.
        """
        for name, wanted in self.conditions.get(task.name, {}).items():
            if name in task.targets:
                raise TargetError(
                    f"Task {task.name!r} cannot be its own condition: only_where names other columns, and got {name!r}."
                )
            try:
                values = self.named(name)
            except DataError:
                raise DataError(
                    str(UnknownNameError("column", name, self.label_names, f"only_where of task {task.name!r}"))
                ) from None
            where = _is_one_of(values, wanted)
            if not where.any():
                known = sorted({str(v) for v in values.tolist() if v is not None and v == v})[:10]
                raise TargetError(
                    f"Task {task.name!r} is only defined where {name} is {wanted!r}, and no row of {self.name!r} is. "
                    f"Values there are: {', '.join(known)}."
                )
            where = where if rows is None else where[rows]
            if not where.all():
                is_number = labels.dtype.kind in "iuf"
                labels = labels.astype(np.float64 if is_number else object)
                labels[~where] = np.nan if is_number else None
        return labels

    def named(self, name: str) -> np.ndarray:
        """Values of a column, or labels."""
        return self.column(name)


def one_value_a_row(name: str, values: np.ndarray) -> np.ndarray:
    """The values of a column, checked to be single values, no lists.

    Raises:
        DataError: If one is a list or a mapping, as JSON lines and Parquet may hold.
    """
    if values.dtype == object:
        row = next((i for i, value in enumerate(values) if isinstance(value, list | dict | set | np.ndarray)), None)
        if row is not None:
            raise DataError(
                f"Column {name!r} needs one value a row to divide, group or weigh rows by, and row {row} has "
                f"{values[row]!r}: name another column, or make text of its values."
            )
    return values


_WORDS = {True: {"yes", "true", "on", "y"}, False: {"no", "false", "off", "n"}}


def _is_one_of(values: np.ndarray, wanted: Any) -> np.ndarray:
    """Which values are the wanted one, or one of several.

    YAML reads ``yes`` as true, so that a truth value also stands for the words for it.
    """
    options = wanted if isinstance(wanted, list | tuple) else [wanted]
    listed = values.tolist()
    words = {word for option in options if isinstance(option, bool) for word in _WORDS[option]}
    return np.array([v in options or (isinstance(v, str) and v.strip().lower() in words) for v in listed], dtype=bool)


def _without_unknown(task: Task, labels: np.ndarray, notes: list[str]) -> np.ndarray:
    """The labels with ``None`` for classes that training did not see; of a list of tags, for each such tag."""
    unknown = np.flatnonzero(~task.is_known(labels))
    if not len(unknown):
        return labels
    kept = labels.astype(object)
    found: list[Any] = []
    for row in unknown:
        kept[row], classes = _known_part(task, kept[row])
        found += [row] * task.of_pixels or classes
    counts = sorted(Counter(map(str, found)).items())
    listed = ", ".join(f"{value} ({count})" for value, count in counts[:5])
    if task.of_pixels:
        listed = f"those of rows {', '.join(map(str, found[:5]))}"
    notes.append(
        f"{len(found)} labels of task {task.name!r} are of classes that no training row has, and count as "
        f"missing: {listed}{', ...' if len(counts) > 5 else ''}. A stratified split keeps rare classes in training."
    )
    return kept


def _known_part(task: Task, label: Any) -> tuple[Any, list[Any]]:
    """A label without the classes that training did not see, and these classes."""
    if task.of_pixels or not isinstance(label, list | tuple):
        return None, [label]
    known = task.is_known(object_array([[element] for element in label]))
    kept = [element if there else None for element, there in zip(label, known, strict=True)]
    return kept, [element for element, there in zip(label, known, strict=True) if not there]
