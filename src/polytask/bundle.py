"""A bundle: what a run leaves, ready to predict: tasks, transforms, one or several models, provenance.

A folder of JSON and safetensors files. Reading one runs no code of it: names in it are looked up among the known methods,
and everything else is numbers and text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from polytask.data.batch import ArraySource
from polytask.data.sources import array_source
from polytask.data.tables import open_table
from polytask.data.transform import TableTransform
from polytask.errors import BundleError, InputError, StorageError, UnknownNameError
from polytask.models.inputs import InputShape
from polytask.models.model import ModelSpec, MultiTaskModel, build_model
from polytask.records import without_nan
from polytask.shapes import Tensor
from polytask.storage import load_tree, save_tree, sha256, write_json
from polytask.tasks.task import Prediction, Task, task_from_options

__all__ = ["SCHEMA", "Bundle", "Network", "load"]

SCHEMA = 1
"""Version of the form in which bundles are written; older ones load, newer ones are refused."""


@dataclass
class Network:
    """One trained network of a bundle.

    Args:
        spec: How to build it.
        model: The network itself, in evaluation mode.
    """

    spec: ModelSpec
    model: MultiTaskModel

    kind = "network"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it answers."""
        return self.model.tasks

    @torch.inference_mode()
    def outputs(self, inputs: ArraySource, tasks: Sequence[str], piece: int = 8192) -> dict[str, Tensor]:
        """Outputs of the heads for all rows, the shared part run once for all the tasks asked.

        Raises:
            InputError: If the inputs do not have the shape that the network was built for.
        """
        if inputs.name not in self.spec.inputs:
            raise InputError(f"This model knows the sources {sorted(self.spec.inputs)}; got rows of {inputs.name!r}.")
        self.spec.inputs[inputs.name].check(inputs.inputs, "This model")
        device = next(self.model.parameters()).device
        self.model.eval()
        parts: dict[str, list[Tensor]] = {task: [] for task in tasks}
        for start in range(0, max(len(inputs), 1), piece):
            batch = inputs.batch(torch.arange(start, min(start + piece, len(inputs)))).to(device)
            for task, out in self.model(batch.inputs, tasks, batch.source).items():
                parts[task].append(out.cpu())
        return {task: torch.cat(part) for task, part in parts.items()}


@dataclass
class Bundle:
    """A trained model (or several) that answers all the tasks.

    Args:
        tasks: The fitted tasks, in order.
        models: The models; each task is answered by the first that has it.
        transforms: For sources that are tables, how columns become tensors; other sources are arrays.
        metrics: Test metrics of each task, as measured when the bundle was made.
        provenance: Versions, data, recipe: where it comes from.

    Example:
        See :class:`polytask.Recipe` and :class:`polytask.MultiTaskEstimator`, which make bundles.
    """

    tasks: Sequence[Task]
    models: Sequence[Network]
    transforms: Mapping[str, TableTransform] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def task(self, name: str) -> Task:
        """A task by name.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise UnknownNameError("task", name, [task.name for task in self.tasks])

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources whose rows the models read."""
        return tuple(dict.fromkeys(source for model in self.models for source in model.spec.inputs))

    def encode(self, data: Any, source: str | None = None) -> ArraySource:
        """Rows of a source as tensors.

        Args:
            data: A table for a source that is a table; else an array, a tensor, or a dict of them.
            source: Which source the rows are of; may be left out if there is only one.

        Raises:
            InputError: If columns are missing or of another type than in training, or the source is not known.
        """
        name = self._source(source)
        if name in self.transforms:
            return ArraySource(name, self.transforms[name].transform(open_table(data)))
        return array_source(name, data, {}, [])

    def predict(
        self, data: Any, tasks: Sequence[str] | None = None, source: str | None = None
    ) -> dict[str, Prediction]:
        """Answers of the tasks for each row, in the user's units.

        Args:
            data: See :meth:`encode`.
            tasks: Names of the tasks; all if ``None``.
            source: See :meth:`encode`.

        Raises:
            InputError: If the rows cannot be used.
            UnknownNameError: If a task is not known.
        """
        encoded = self.encode(data, source)
        asked = [self.task(name) for name in tasks] if tasks is not None else list(self.tasks)
        answers: dict[str, Prediction] = {}
        for model in self.models:
            mine = [task for task in asked if task.name in model.tasks and task.name not in answers]
            if mine and encoded.name in model.spec.inputs:
                outputs = model.outputs(encoded, [task.name for task in mine])
                answers |= {task.name: task.decode(outputs[task.name]) for task in mine}
        missing = [task.name for task in asked if task.name not in answers]
        if missing:
            raise InputError(f"No model of this bundle answers {missing} for rows of {encoded.name!r}.")
        return {task.name: answers[task.name] for task in asked}

    def predict_frame(self, data: Any, tasks: Sequence[str] | None = None, source: str | None = None) -> pd.DataFrame:
        """Answers as a table: a column for each task's value, then its probabilities."""
        columns: dict[str, np.ndarray] = {}
        for name, answer in self.predict(data, tasks, source).items():
            columns |= answer.columns(name)
        return pd.DataFrame(columns)

    def save(self, path: str | Path) -> None:
        """Write the bundle; the file that makes it valid comes last.

        Raises:
            StorageError: If it cannot be written.
        """
        folder = Path(path)
        models = []
        for index, model in enumerate(self.models):
            name = f"model-{index}.safetensors"
            save_tree(folder / name, dict(model.model.state_dict()))
            models.append(
                {"kind": model.kind, "spec": model.spec.to_json(), "file": name, "sha256": sha256(folder / name)}
            )
        content = {
            "tasks": [{"options": task.options(), "state": task.state()} for task in self.tasks],
            "transforms": {name: transform.state() for name, transform in self.transforms.items()},
            "models": models,
            "metrics": without_nan(self.metrics),
            "provenance": without_nan(self.provenance),
        }
        write_json(folder / "bundle.json", {"schema": SCHEMA, "sha256": _digest(content), "content": content})

    def _source(self, name: str | None) -> str:
        if name is None:
            if len(self.sources) != 1:
                raise InputError(
                    f"This bundle reads several sources, {list(self.sources)}; say which one the rows are of."
                )
            return self.sources[0]
        if name not in self.sources:
            raise UnknownNameError("source", name, self.sources)
        return name


def load(path: str | Path, module: nn.Module | None = None) -> Bundle:
    """Read a bundle, or the bundle of a run folder.

    Args:
        path: The bundle's folder, or a run folder that has one.
        module: The network, if the bundle's encoder was a module of the user's own.

    Raises:
        BundleError: If it is no bundle, is damaged or altered, or of a newer schema.
    """
    folder = Path(path)
    if not (folder / "bundle.json").exists() and (folder / "bundle" / "bundle.json").exists():
        folder = folder / "bundle"
    try:
        data = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"{folder} is no bundle: it has no bundle.json. Give the folder that `polytask fit --out` made."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder / 'bundle.json'} is damaged: {error}.") from error
    return _read(folder, data, module)


def _read(folder: Path, data: Any, module: nn.Module | None) -> Bundle:
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise BundleError(f"{folder / 'bundle.json'} is no bundle of polytask.")
    if data["schema"] > SCHEMA:
        raise BundleError(
            f"{folder} was written with schema {data['schema']}; this polytask reads up to {SCHEMA}. Upgrade polytask."
        )
    content = data.get("content")
    if not isinstance(content, dict) or data.get("sha256") != _digest(content):
        raise BundleError(f"{folder / 'bundle.json'} was altered or is damaged: its checksum does not match.")
    tasks = []
    for entry in content["tasks"]:
        task = task_from_options(entry["options"])
        task.load_state(entry["state"])
        tasks.append(task)
    return Bundle(
        tasks=tasks,
        models=[_read_model(folder, entry, module) for entry in content["models"]],
        transforms={name: TableTransform().load_state(state) for name, state in content["transforms"].items()},
        metrics=content["metrics"],
        provenance=content["provenance"],
    )


def _read_model(folder: Path, entry: Mapping[str, Any], module: nn.Module | None) -> Network:
    file = folder / Path(entry["file"]).name
    if entry["kind"] != Network.kind:
        raise UnknownNameError("kind of model in a bundle", entry["kind"], [Network.kind])
    if not file.exists() or sha256(file) != entry["sha256"]:
        raise BundleError(f"{file} is missing, damaged or altered: its checksum does not match the bundle's.")
    spec = ModelSpec.from_json(entry["spec"])
    model = build_model(spec, module)
    try:
        model.load_state_dict(load_tree(file))
    except (StorageError, RuntimeError) as error:
        raise BundleError(f"{file} does not fit the model that the bundle describes: {error}") from error
    return Network(spec, model.eval())


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def shape_of(source: ArraySource, transform: TableTransform | None) -> InputShape:
    """The shape of a source's inputs, with the cardinalities that its transform knows."""
    codes = {"categorical": tuple(transform.cardinalities.values())} if transform is not None else {}
    return InputShape.of(source.inputs, codes)
