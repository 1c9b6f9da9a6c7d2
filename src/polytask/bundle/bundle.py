"""The bundle itself, and writing its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.bundle.blend import blended
from polytask.bundle.cells import cells_of, files_of
from polytask.bundle.model import BundledModel
from polytask.bundle.network import Network
from polytask.bundle.own import own_answers
from polytask.data.batch import ArraySource
from polytask.data.decoding import FileTransform
from polytask.data.sources import array_source
from polytask.data.tables import open_table
from polytask.data.text import TEXT, TextTransform, as_table
from polytask.data.transform import TableTransform
from polytask.errors import InputError, UnknownNameError
from polytask.models.inputs import InputShape
from polytask.records import without_nan
from polytask.shapes import Tensor
from polytask.storage import write_json
from polytask.tasks.task import Prediction, Task

__all__ = ["SCHEMA", "Bundle", "checksum_of", "shape_of"]

SCHEMA = 1
"""Version of the form in which bundles are written; older ones load, newer ones are refused."""


@dataclass
class Bundle:
    """A trained model (or several) that answers all the tasks.

    Args:
        tasks: The fitted tasks, in order.
        models: The models; each task is answered by the first that has it, unless ``answers`` says otherwise.
        transforms: For sources that are tables, how columns become tensors, by the source's name, and for models with
            another encoding by ``"source (encoding)"``; other sources are arrays.
        metrics: Test metrics of each task, as measured when the bundle was made.
        provenance: Versions, data, recipe: where it comes from.
        answers: For tasks that are answered by certain models, their positions; the mean answer of several.
        texts: For sources that are texts, how words become codes.
        files: For sources whose rows are files, how these become tensors.
        by: For tasks that are the values of a column, see :func:`~polytask.bundle.own.own_answers`.

    Example:
        See :class:`polytask.Recipe` and :class:`polytask.MultiTaskEstimator`, which make bundles.
    """

    tasks: Sequence[Task]
    models: Sequence[BundledModel]
    transforms: Mapping[str, TableTransform] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    texts: Mapping[str, TextTransform] = field(default_factory=dict)
    files: Mapping[str, FileTransform] = field(default_factory=dict)
    by: Mapping[str, Any] = field(default_factory=dict)

    def task(self, name: str) -> Task:
        """A task by name.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise UnknownNameError("task", name, [task.name for task in self.tasks])

    def answering(self, task: str, source: str) -> list[int]:
        """Positions of the models that answer a task for rows of a source; none if there is no such model."""
        able = [i for i, model in enumerate(self.models) if task in model.tasks and source in model.sources]
        return [position for position in self.answers.get(task, able[:1]) if position in able]

    @property
    def networks(self) -> list[Network]:
        """The networks that answer a task, each as one that serves no other tasks than those it answers."""
        found = []
        for position, model in enumerate(self.models):
            if isinstance(model, Network):
                asked = [(task, source) for task in model.tasks for source in model.sources]
                mine = tuple(dict.fromkeys(t for t, source in asked if position in self.answering(t, source)))
                if mine:
                    found.append(model if mine == model.tasks else replace(model, serves=mine))
        return found

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources whose rows the models read."""
        return tuple(dict.fromkeys(source for model in self.models for source in model.sources))

    def transforms_of(self, source: str) -> list[TableTransform]:
        """How rows of a source that is a table become tensors, for one model or another; none for other sources."""
        return [t for key, t in self.transforms.items() if key == source or key.startswith(f"{source} (")]

    def column(self, source: str) -> str | None:
        """The column of files or texts that is all that is read of a source, if it is one; ``text`` if nameless."""
        if source in self.files:
            return self.files[source].column
        return self.texts[source].column or TEXT if source in self.texts else None

    def encode(self, data: Any, source: str | None = None, encoding: str = "") -> ArraySource:
        """Rows of a source as tensors.

        Args:
            data: A table for a source that is a table; texts, or lists of words, for one of texts; names of files, or a
                folder or archive of them, for one of files; a table with the column of these for either; else an array,
                a tensor, or a dict of them.
            source: Which source the rows are of; may be left out if there is only one.
            encoding: Which of the source's transforms to use, see :class:`~polytask.bundle.BundledModel`.

        Raises:
            InputError: If columns are missing or of another type than in training, or the source is not known.
        """
        name = self.source(source)
        key = f"{name} ({encoding})" if encoding else name
        if key in self.transforms:
            table = as_table(self._texts(data, name)) if name in self.texts else data
            return ArraySource(name, self.transforms[key].transform(open_table(table)))
        if name in self.texts:
            return ArraySource(name, self.texts[name].transform(self._texts(data, name)))
        if name in self.files and (found := files_of(data, self.files[name])) is not None:
            return found.source(name)
        return array_source(name, data, {}, [])

    def predict(
        self, data: Any, tasks: Sequence[str] | None = None, source: str | None = None
    ) -> dict[str, Prediction]:
        """Answers of the tasks for each row, in the user's units.

        Args:
            data: See :meth:`encode`.
            tasks: Names of the tasks; all that rows of the source have answers for if ``None``.
            source: See :meth:`encode`.

        Raises:
            InputError: If the rows cannot be used.
            UnknownNameError: If a task is not known.
        """
        name = self.source(source)
        asked = [self.task(task) for task in tasks] if tasks is not None else list(self.tasks)
        outputs = self.outputs(data, name, asked)
        answers = {task.name: task.decode(outputs[task.name]) for task in asked if task.name in outputs}
        if name in self.texts and any(task.of_elements for task in asked):
            there = self.texts[name].lengths(self._texts(data, name))
            answers |= {t.name: answers[t.name].within(there) for t in asked if t.of_elements and t.name in answers}
        missing = [task.name for task in asked if task.name not in answers]
        if missing and (tasks is not None or not answers):
            raise InputError(f"No model of this bundle answers {missing} for rows of {name!r}.")
        return {task.name: answers[task.name] for task in asked if task.name in answers}

    def predict_frame(self, data: Any, tasks: Sequence[str] | None = None, source: str | None = None) -> pd.DataFrame:
        """Answers as a table: a column for each task's value, then its probabilities.

        If the tasks are the values of a column and the rows have that column, only each row's own task is told.
        """
        answers = self.predict(data, tasks, source)
        if self.by and tasks is None and (own := own_answers(self.by, data, answers)) is not None:
            return pd.DataFrame(own)
        columns: dict[str, np.ndarray] = {}
        for name, answer in answers.items():
            columns |= answer.columns(name)
        return pd.DataFrame(columns)

    def predict_arrays(
        self, data: Any, tasks: Sequence[str] | None = None, source: str | None = None
    ) -> dict[str, np.ndarray]:
        """Answers as arrays by name, for maps and boxes: ``np.savez_compressed(path, **bundle.predict_arrays(x))``.

        A map is an array ``[N, H, W]``; boxes are four arrays with an entry a box, ``task.row``, ``task.class``,
        ``task.score`` and ``task.box``.
        """
        arrays: dict[str, np.ndarray] = {}
        for name, answer in self.predict(data, tasks, source).items():
            arrays |= answer.arrays(name)
        return arrays

    def save(self, path: str | Path) -> None:
        """Write the bundle; the file that makes it valid comes last.

        Raises:
            StorageError: If it cannot be written.
        """
        folder = Path(path)
        models = [
            {"kind": model.kind, "encoding": model.encoding, **model.write(folder, f"model-{index}")}
            for index, model in enumerate(self.models)
        ]
        content = {
            "tasks": [{"options": task.options(), "state": task.state()} for task in self.tasks],
            "transforms": {name: transform.state() for name, transform in self.transforms.items()},
            "models": models,
            "metrics": without_nan(self.metrics),
            "provenance": without_nan(self.provenance),
            "answers": {task: list(positions) for task, positions in self.answers.items()},
            "texts": {name: transform.state() for name, transform in self.texts.items()},
            **({"files": {name: file.state() for name, file in self.files.items()}} if self.files else {}),
            **({"by": self.by} if self.by else {}),
        }
        write_json(folder / "bundle.json", {"schema": SCHEMA, "sha256": checksum_of(content), "content": content})

    def outputs(self, data: Any, source: str, asked: Sequence[Task]) -> dict[str, Tensor]:
        """Outputs of each task that a model for the source answers; every model and encoding is run once."""
        wanted: dict[int, list[str]] = {}
        for task in asked:
            for position in self.answering(task.name, source):
                wanted.setdefault(position, []).append(task.name)
        encoded: dict[str, ArraySource] = {}
        found: dict[str, list[Tensor]] = {}
        for position, names in wanted.items():
            model = self.models[position]
            if model.encoding not in encoded:
                encoded[model.encoding] = self.encode(data, source, model.encoding)
            for name, out in model.outputs(encoded[model.encoding], names).items():
                found.setdefault(name, []).append(out)
        return {task.name: blended(task, found[task.name]) for task in asked if task.name in found}

    def _texts(self, data: Any, source: str) -> Any:
        """The texts that are meant: those of a table, or what is given; a path is one where training read a table."""
        is_text = self.texts[source].column is None and isinstance(data, str)
        return data if is_text else cells_of(data, self.column(source))

    def source(self, name: str | None = None) -> str:
        """A source by name, or the only one there is.

        Raises:
            InputError: If there are several and none is named.
            UnknownNameError: If there is none of that name.
        """
        if name is None:
            if len(self.sources) != 1:
                raise InputError(
                    f"This bundle reads several sources, {list(self.sources)}; say which one the rows are of."
                )
            return self.sources[0]
        if name not in self.sources:
            raise UnknownNameError("source", name, self.sources)
        return name


def checksum_of(content: Any) -> str:
    """The checksum of a bundle's content."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def shape_of(source: ArraySource, transform: TableTransform | None) -> InputShape:
    """The shape of a source's inputs, with the cardinalities that its transform knows."""
    codes = {"categorical": tuple(transform.cardinalities.values())} if transform is not None else {}
    return InputShape.of(source.inputs, codes)
