"""What a study keeps of folds and trials, written down at once, so that nothing is trained twice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytask.errors import RunFolderError, StorageError
from polytask.records import StudyFold, without_nan
from polytask.shapes import Tensor, labelled
from polytask.storage import load_tree, save_tree, write_json
from polytask.study.folds import JudgedFold
from polytask.tasks.task import Task, task_from_options

__all__ = [
    "Answers",
    "KeptFold",
    "Store",
    "Trial",
    "keep_fold",
    "keep_trial",
    "load_answers",
    "load_fold",
    "load_trial",
    "trial_key",
]


@dataclass
class Trial:
    """What one arm did on one fold.

    Args:
        arm: Name of the arm.
        why_not: Why it did not run; empty if it did.
        metrics: Per task, every metric on the test rows.
        validation: Per task, the relative error on the validation rows.
        seconds: Time of the training.
        predict_seconds: Time to answer 1,000 rows.
        parameters: Numbers that were learned.
        settled: See :class:`~polytask.study.arm.FittedArm`, as for the rest.
    """

    arm: str
    why_not: str = ""
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    validation: dict[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    predict_seconds: float = 0.0
    parameters: int = 0
    settled: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    conflict: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)
    affinity: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def error(self, task: str) -> float | None:
        """Relative error on the test rows."""
        return self.metrics.get(task, {}).get("relative_error")


Answers = Mapping[str, Mapping[str, Tensor]]
"""By part (``validation``, ``test``) and task: outputs of the rows whose label is observed."""


@dataclass
class KeptFold:
    """What is kept of a fold: enough to score answers again, and no input.

    Args:
        record: The fold in the record.
        tasks: The tasks with their codecs as fitted on it.
        truth: By part and task, ``(targets, observed)`` of the rows with an observed label.
        groups: By task, the group of each of its test rows; empty if rows are not kept together.
        notes: What was noted when its data were read, such as columns that are left out.
    """

    record: StudyFold
    tasks: dict[str, Task]
    truth: Mapping[str, Mapping[str, tuple[Tensor, Tensor]]]
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Store:
    """Where trials and folds are kept: a folder, or the memory if there is none.

    Args:
        folder: The study's folder, or ``None``.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._json: dict[str, Any] = {}
        self._trees: dict[str, Any] = {}

    def load(self, key: str) -> Any:
        """Plain data, or ``None`` if there is none under the key.

        Raises:
            RunFolderError: If the file is damaged.
        """
        if self.folder is None:
            return self._json.get(key)
        path = self.folder / f"{key}.json"
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise RunFolderError(f"{path} is damaged: {error}. Remove it, and what it held is done again.") from error

    def tree(self, key: str) -> Any:
        """The tensors under a key that :meth:`load` has found."""
        if self.folder is None:
            return self._trees[key]
        try:
            return load_tree(self.folder / f"{key}.safetensors")
        except StorageError as error:
            raise RunFolderError(f"{error} Remove {key}.json beside it, and what it held is done again.") from error

    def save(self, key: str, data: Any, tree: Any) -> None:
        """Keep both; the plain data comes last and makes them valid."""
        plain = without_nan(data)
        if self.folder is None:
            # Through JSON all the same, so that a study without a folder gives the same record.
            self._json[key], self._trees[key] = json.loads(json.dumps(plain)), tree
            return
        save_tree(self.folder / f"{key}.safetensors", tree)
        write_json(self.folder / f"{key}.json", plain)


def fold_key(repeat: int, fold: int) -> str:
    """Where a fold is kept."""
    return f"folds/{repeat}-{fold}"


def trial_key(arm: str, repeat: int, fold: int) -> str:
    """Where a trial is kept."""
    return f"trials/{re.sub(r'[^a-z0-9_.]', '-', arm)}/{repeat}-{fold}"


def keep_fold(store: Store, tested: JudgedFold) -> KeptFold:
    """Keep what later scoring needs of a fold."""
    record, tasks = tested.record, tested.data.tasks
    tree: dict[str, Any] = {}
    for part, sources in tested.parts.items():
        tree[part] = {}
        for source, encodings in sources.items():
            labels = encodings[""]
            for name in labels.tasks:
                seen = labelled(labels.observed[name])
                kept = {"targets": labels.targets[name][seen], "observed": labels.observed[name][seen]}
                if part == "test" and tested.groups is not None:
                    kept["groups"] = torch.from_numpy(tested.groups[source])[seen]
                tree[part][name] = kept
    content = {
        "record": asdict(record),
        "tasks": [{"options": task.options(), "state": task.state()} for task in tasks],
        "notes": tested.data.prepared.notes,
    }
    key = fold_key(record.repeat, record.fold)
    store.save(key, content, tree)
    return load_fold(store, record.repeat, record.fold)  # type: ignore[return-value]


def load_fold(store: Store, repeat: int, fold: int) -> KeptFold | None:
    """A fold that was kept, or ``None``."""
    content = store.load(fold_key(repeat, fold))
    if content is None:
        return None
    tasks = {}
    for entry in content["tasks"]:
        task = task_from_options(entry["options"])
        task.load_state(entry["state"])
        tasks[task.name] = task
    tree = store.tree(fold_key(repeat, fold))
    truth = {
        part: {name: (kept["targets"], kept["observed"].bool()) for name, kept in by_task.items()}
        for part, by_task in tree.items()
    }
    groups = {name: kept["groups"].numpy() for name, kept in tree["test"].items() if "groups" in kept}
    return KeptFold(StudyFold(**content["record"]), tasks, truth, groups, content.get("notes", ()))


def load_trial(store: Store, arm: str, repeat: int, fold: int) -> Trial | None:
    """A trial that was run, or ``None``."""
    content = store.load(trial_key(arm, repeat, fold))
    return None if content is None else Trial(**content)


def load_answers(store: Store, arm: str, repeat: int, fold: int) -> Answers:
    """The answers of a trial that was run."""
    answers: Answers = store.tree(trial_key(arm, repeat, fold))
    return answers


def keep_trial(store: Store, trial: Trial, answers: Answers, repeat: int, fold: int) -> None:
    """Keep what an arm did on a fold."""
    store.save(trial_key(trial.arm, repeat, fold), asdict(trial), answers)
