"""The contract of an arm: a fold's training and validation rows in, trained models out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from polytask.bundle import BundledModel
from polytask.bundle.columns import Column, columns_of, input_matrix, labels_of_column
from polytask.data.batch import ArraySource
from polytask.data.transform import TableTransform
from polytask.shapes import Tensor
from polytask.study.terms import Terms
from polytask.tasks.task import Task
from polytask.training.preparation import Prepared
from polytask.training.run import Plan

__all__ = ["Arm", "FittedArm", "FoldData", "learn", "outputs_of", "why_not_learn"]

PLAIN = "plain"
"""Name of the encoding that plain models read: numbers centred and scaled, but not bent."""


@dataclass
class FoldData:
    """What an arm may see of a fold: training and validation rows, never a test row.

    Args:
        prepared: Tasks, sources and transforms as networks read them; without test rows.
        plain: The training and validation rows of each source as plain models read them, by part.
        plain_transforms: The transforms that made them, by source; none for arrays.
        plan: Architecture and settings of networks.
        seed: Of everything random.
        planner: Makes the plan anew where there are fewer rows; ``plan`` stays if ``None``.
        terms: On what terms an arm may search among plans.
        where: Name of the fold: its repetition and number.
    """

    prepared: Prepared
    plain: Mapping[str, Mapping[str, ArraySource]]
    plain_transforms: Mapping[str, TableTransform]
    plan: Plan
    seed: int
    planner: Callable[[Prepared], Plan] | None = None
    terms: Terms = field(default_factory=Terms)
    where: str = "all"

    @property
    def tasks(self) -> list[Task]:
        """The tasks that have enough labels here, fitted."""
        return self.prepared.tasks

    @property
    def source(self) -> str:
        """The first source; the only one for an arm that reads one."""
        return next(iter(self.prepared.train))

    @property
    def encoding(self) -> str:
        """The encoding that plain models read."""
        return PLAIN if self.plain_transforms else ""

    @cached_property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each categorical input."""
        transform = self.plain_transforms.get(self.source)
        return tuple(transform.cardinalities.values()) if transform is not None else ()

    @cached_property
    def columns(self) -> list[Column]:
        """The columns of all tasks that plain models can serve."""
        return [column for task in self.tasks for column in columns_of(task)]

    def only(self, names: Sequence[str]) -> FoldData:
        """The same fold for some of the tasks; networks are set up for the rows that have their labels."""
        prepared = self.prepared.only(names)
        plan = self.planner(prepared) if self.planner else self.plan
        return replace(self, prepared=prepared, plan=plan.of(names))

    def matrix(self, part: str, *, one_hot: bool = False) -> np.ndarray:
        """Plain inputs ``[N, D]`` of ``train``, ``validation``, or ``both``; no row for a part that is empty."""
        sources = [self.plain[p][self.source] for p in self._parts(part)]
        cardinalities = self.cardinalities if one_hot else ()
        return np.vstack([input_matrix(source.inputs, cardinalities) for source in sources])

    def labels(self, column: Column, part: str) -> np.ndarray:
        """Labels ``[N]`` of a column, NaN where not observed."""
        return np.concatenate([labels_of_column(column, self.plain[p][self.source]) for p in self._parts(part)])

    @property
    def has_validation(self) -> bool:
        """Whether there are validation rows; the last training of a study has none."""
        return self.source in self.plain["validation"]

    def _parts(self, part: str) -> list[str]:
        wanted = ["train", "validation"] if part == "both" else [part]
        return [p for p in wanted if self.source in self.plain[p]]


@dataclass
class FittedArm:
    """What an arm learned on a fold.

    Args:
        models: The models; together they answer the tasks that the arm serves.
        choosing: Models that saw training rows only, whose answers on the validation rows are honest; the same ones
            unless the arm learned once more with the validation rows.
        settled: What validation decided, such as epochs: numbers by name, from which a last training without
            validation rows is set up. A whole ``configuration`` is taken from the fold with the smallest ``score``.
        curves: Per task, ``{"epoch", "train", "validation"}`` losses.
        weights: ``{"epoch": [...], "tasks": {task: [...]}}``.
        conflict: ``{"epoch": [...], "pairs": {...}}``.
        gates: Per task, the share of each expert.
        affinity: What the tasks were found to do for each other, and the groups made from it.
        search: What was tried inside the fold, and what was found.
        earlier: Seconds of trainings before an interruption, which were gone on with here.
        notes: What a reader should know.
    """

    models: Sequence[BundledModel]
    choosing: Sequence[BundledModel] = ()
    settled: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    conflict: Mapping[str, Any] = field(default_factory=dict)
    gates: Mapping[str, Any] = field(default_factory=dict)
    affinity: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    earlier: float = 0.0
    notes: Sequence[str] = ()

    @property
    def n_parameters(self) -> int:
        """Numbers that were learned."""
        return sum(model.n_parameters for model in self.models)


class Arm(ABC):
    """One way of learning the tasks: an architecture, a balancer, another kind of model.

    Args:
        name: As it is written: ``joint:mmoe``.

    Note:
        A new arm is one file in ``polytask/study/arms`` with one subclass; the file's name is the arm's. What follows a
        colon is given as ``kind``, after ``@`` as ``ratio``, after ``+`` as ``balancer``, for arms that take them.
    """

    role: ClassVar[str]
    """``joint``, ``single``, ``pooled``, ``linear``, ``forest`` or ``outsider``."""
    is_per_task: ClassVar[bool] = False
    """Whether each task is learned on its own, so that a task's model is the same without the others."""
    reads_sources: ClassVar[bool] = False
    """Whether one training reads several sources; an arm that learns each task on its own need not."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Which of ``kind``, ``ratio`` and ``balancer`` the arm takes."""

    def __init__(self, name: str):
        self.name = name

    @property
    @abstractmethod
    def words(self) -> str:
        """What the arm is, in a sentence."""

    def why_not(self, fold: FoldData) -> str:
        """Why the arm makes no sense on this data; empty if it does."""
        return ""

    @abstractmethod
    def fit(self, fold: FoldData, settled: Mapping[str, Any] | None = None) -> FittedArm:
        """Learn the tasks of a fold.

        Args:
            fold: Its rows.
            settled: What earlier folds settled, for a training without validation rows.
        """


def why_not_learn(arm: Arm, fold: FoldData) -> str:
    """Why an arm makes no sense on this data, which may have several sources; empty if it does."""
    if len(fold.prepared.train) > 1 and not (arm.is_per_task or arm.reads_sources):
        return f"it reads one source, and the tasks are from {len(fold.prepared.train)} sources"
    return arm.why_not(fold)


def learn(arm: Arm, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
    """Let an arm learn the tasks of a fold; one that learns each task on its own reads one source after the other."""
    if len(fold.prepared.train) == 1 or not arm.is_per_task:
        return arm.fit(fold, settled)
    parts = [fold.only(source.tasks) for source in fold.prepared.train.values()]
    # A source may have tags or masks alone, which a plain arm leaves out.
    found = [arm.fit(part, settled) for part in parts if not arm.why_not(part)]
    merged: dict[str, dict[str, Any]] = {name: {} for name in ("settled", "curves")}
    for fitted in found:
        for name, known in merged.items():
            known |= getattr(fitted, name)
    return FittedArm(
        [model for fitted in found for model in fitted.models],
        [model for fitted in found for model in (fitted.choosing or fitted.models)],
        merged["settled"],
        merged["curves"],
        notes=list(dict.fromkeys(note for fitted in found for note in fitted.notes)),
    )


def outputs_of(models: Sequence[BundledModel], sources: Mapping[str, Mapping[str, ArraySource]]) -> dict[str, Tensor]:
    """Outputs of all tasks that the models serve, for the rows of the source that each task is of.

    Args:
        models: The models.
        sources: The rows by source and encoding.
    """
    found: dict[str, Tensor] = {}
    for name, encodings in sources.items():
        for model in models:
            mine = [task for task in model.tasks if task in encodings[""].tasks and task not in found]
            if mine and name in model.sources:
                with torch.inference_mode():
                    found |= model.outputs(encodings[model.encoding], mine)
    return found
