"""One network with one answer for all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from polytask.bundle import Pooled
from polytask.data.batch import ArraySource
from polytask.study.arm import FittedArm, FoldData
from polytask.study.networks import NetworkArm, asked, best_epochs, curves_of
from polytask.tasks.task import Task, task_from_options
from polytask.training.preparation import Prepared
from polytask.training.run import Fitted
from polytask.training.stacked import Asked

__all__ = ["PooledNetwork"]

_NAME = "pooled"
_KINDS = ("regression", "count", "binary", "multiclass")


class PooledNetwork(NetworkArm):
    """One network that takes the labels of all tasks for labels of one: each label is a row of its own.

    It makes sense where the tasks ask the same of different rows, such as marks in different schools: the tasks must be
    of one kind, with the same classes, or numbers whose ranges overlap.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Note:
        It costs one training, with a row for each label of all tasks. The network is not told which task a label is of,
        so that it gives one answer to a row for all tasks. Left out where kinds, classes or inputs of the tasks differ,
        or the ranges of numbers do not overlap.
    """

    role: ClassVar[str] = "pooled"

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One network with one answer for all tasks, whose labels are pooled."

    def why_not(self, fold: FoldData) -> str:
        """The tasks must ask the same."""
        tasks = fold.tasks
        if len(tasks) < 2:
            return "there is one task only, so there is nothing to pool"
        if len({task.kind for task in tasks}) > 1 or tasks[0].kind not in _KINDS:
            return "the tasks are of different kinds, or of a kind whose labels cannot be pooled"
        if any(task.inputs is not None for task in tasks):
            return "the tasks read different inputs"
        source = fold.prepared.train[fold.source]
        labels = [_labels(task, source)[1] for task in tasks]
        if tasks[0].has_probabilities:
            same = len({tuple(sorted(map(str, np.unique(values)))) for values in labels}) == 1
        else:
            same = max(values.min() for values in labels) < min(values.max() for values in labels)
        return (
            ""
            if same
            else "the tasks have different classes, or ranges that do not overlap, so that no answer fits all"
        )

    def trainings(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> list[Asked]:
        """The network on the stacked labels."""
        options = {key: value for key, value in fold.tasks[0].options().items() if key not in ("name", "target")}
        pooled = task_from_options({**options, "name": _NAME, "weight": 1.0, "source": None})
        labels = {
            part: [_labels(task, sources[fold.source]) for task in fold.tasks]
            for part, sources in (("train", fold.prepared.train), ("validation", fold.prepared.validation))
            if fold.source in sources
        }
        pooled.fit(np.concatenate([values for _, values in labels["train"]]))
        stacked = replace(fold, prepared=self._prepared(fold, pooled, labels))
        return [asked(stacked, fold.plan.alone(), self.name, (settled or {}).get("epochs"))]

    def assemble(self, fold: FoldData, fitted: Sequence[Fitted]) -> FittedArm:
        """The network as an answer for all tasks."""
        (one,) = fitted
        (network,) = one.bundle.networks
        return FittedArm(
            [Pooled(network, one.bundle.tasks[0], fold.tasks)],
            settled={"epochs": best_epochs(one)},
            curves={"all tasks": curves_of(one.history, [_NAME])[_NAME]},
            notes=one.notes,
        )

    def _prepared(
        self, fold: FoldData, pooled: Task, labels: Mapping[str, list[tuple[np.ndarray, np.ndarray]]]
    ) -> Prepared:
        def stacked(part: str, source: ArraySource) -> ArraySource:
            rows = torch.from_numpy(np.concatenate([where for where, _ in labels[part]]))
            targets, observed = pooled.encode(np.concatenate([values for _, values in labels[part]]))
            inputs = source.inputs
            weights = None if source.row_weights is None else source.row_weights[rows]
            return ArraySource(
                source.name,
                inputs[rows]
                if isinstance(inputs, torch.Tensor)
                else {key: value[rows] for key, value in inputs.items()},
                {_NAME: torch.from_numpy(targets)},
                {_NAME: torch.from_numpy(observed)},
                weights,
            )

        prepared = fold.prepared
        return replace(
            prepared,
            tasks=[pooled],
            train={name: stacked("train", source) for name, source in prepared.train.items()},
            validation={name: stacked("validation", source) for name, source in prepared.validation.items()},
            views={},
        )


def _labels(task: Task, source: ArraySource) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a label of the task, and those labels as the user has them."""
    rows = np.flatnonzero(source.observed[task.name].numpy())
    targets = source.targets[task.name][torch.from_numpy(rows)]
    return rows, task.in_units(targets)
