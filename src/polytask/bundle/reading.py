"""Reading a bundle's folder, which may hold anything at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from polytask.bundle.bundle import SCHEMA, Bundle, checksum_of
from polytask.bundle.estimators import Estimators
from polytask.bundle.lines import Lines
from polytask.bundle.model import BundledModel, Reading
from polytask.bundle.network import Network
from polytask.bundle.pooled import Pooled
from polytask.data.answers import AnswerTransform
from polytask.data.decoding import file_transform
from polytask.data.text import TextTransform
from polytask.data.transform import TableTransform
from polytask.errors import BundleError, UnknownNameError
from polytask.tasks.task import task_from_options

__all__ = ["load"]

_KINDS: Mapping[str, type[BundledModel]] = {model.kind: model for model in (Network, Pooled, Estimators, Lines)}


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
    except NotADirectoryError:
        raise BundleError(
            f"{folder} is a file, no folder. Give the folder that `polytask fit --out` or `polytask study --out` made."
        ) from None
    except FileNotFoundError:
        if (folder / "affinity.json").exists():
            raise BundleError(
                f"{folder} is an analysis of affinity, which keeps no model. Its page: polytask report {folder}."
            ) from None
        if (folder / "recipe.json").exists():
            raise BundleError(
                f"{folder} is a run that is not finished, and has no model yet. Go on with it by --resume: the same "
                f"command, --out {folder} --resume."
            ) from None
        raise BundleError(
            f"{folder} is no bundle: it has no bundle.json. Give the folder that `polytask fit --out` or `polytask "
            "study --out` made."
        ) from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, numbers or nesting without end
        raise BundleError(f"{folder / 'bundle.json'} is damaged: {error}.") from error
    except OSError as error:
        raise BundleError(f"{folder / 'bundle.json'} cannot be read: {error.strerror}.") from error
    try:
        return _read(folder, data, module)
    except BundleError:
        raise
    except Exception as error:
        # Whoever can write a bundle can compute its checksums, so what is inside may be anything at all, and the
        # readers of numbers, archives and estimators below each have errors of their own.
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{folder} cannot be read: {what}") from error


def _read(folder: Path, data: Any, module: nn.Module | None) -> Bundle:
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise BundleError(f"{folder / 'bundle.json'} is no bundle of polytask.")
    if data["schema"] > SCHEMA:
        raise BundleError(
            f"{folder} was written with schema {data['schema']}; this polytask reads up to {SCHEMA}. Upgrade polytask."
        )
    content = data.get("content")
    if not isinstance(content, dict) or data.get("sha256") != checksum_of(content):
        raise BundleError(f"{folder / 'bundle.json'} was altered or is damaged: its checksum does not match.")
    tasks = []
    for entry in content["tasks"]:
        task = task_from_options(entry["options"])
        task.load_state(entry["state"])
        tasks.append(task)
    reading = Reading(folder, {task.name: task for task in tasks}, module)
    bundle = Bundle(
        tasks=tasks,
        models=[_read_model(entry, reading) for entry in content["models"]],
        transforms={name: TableTransform().load_state(state) for name, state in content["transforms"].items()},
        metrics=content["metrics"],
        provenance=content["provenance"],
        answers=content.get("answers", {}),
        texts={name: _read_text(state) for name, state in content.get("texts", {}).items()},
        files={name: file_transform(state) for name, state in content.get("files", {}).items()},
        by=content.get("by", {}),
    )
    _rehearse(bundle)
    return bundle


def _rehearse(bundle: Bundle) -> None:
    """Answer two empty rows of each table, so that content which makes no sense is found now, not by who predicts."""
    for source in bundle.sources:
        if transforms := bundle.transforms_of(source):
            names = {name for transform in transforms for name in transform.names}
            answered = {task for model in bundle.models if source in model.sources for task in model.tasks}
            asked = [task for task in bundle.tasks if task.name in answered]
            rows = {name: np.full(2, None, dtype=object) for name in names}
            if source in bundle.texts and (column := bundle.column(source)) is not None:
                rows[column] = np.full(2, "word", dtype=object)  # a text is never missing
            for name, out in bundle.outputs(rows, source, asked).items():
                task = bundle.task(name)
                if out.shape[-1] != task.n_outputs:
                    raise BundleError(f"Task {name!r} has {task.n_outputs} outputs, but its model has {out.shape[-1]}.")
                task.decode(out)


def _read_text(state: Mapping[str, Any]) -> TextTransform:
    made = AnswerTransform() if state["kind"] == AnswerTransform.kind else TextTransform()
    return made.load_state(state)


def _read_model(entry: Mapping[str, Any], reading: Reading) -> BundledModel:
    if entry["kind"] not in _KINDS:
        raise UnknownNameError("kind of model in a bundle", entry["kind"], _KINDS)
    model = _KINDS[entry["kind"]].read(entry, reading)
    model.encoding = entry.get("encoding", "")
    return model
