"""One network a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from polytask.bundle import BundledModel
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.networks import best_epochs, curves_of, train

__all__ = ["Single"]


class Single(Arm):
    """One network a task: the twin that a joint network is judged against.

    Each has the joint network's encoder, head, optimiser, batches and largest number of steps, and stops early by its
    own task alone.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.
    """

    role: ClassVar[str] = "single"
    is_per_task: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One network a task, with the joint network's architecture and budget."

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Train one network after the other."""
        models: list[BundledModel] = []
        curves: dict[str, Any] = {}
        epochs: dict[str, float] = {}
        for task in fold.tasks:
            mine = fold.only([task.name])
            key = f"epochs {task.name}"
            fitted = train(mine, fold.plan.alone(), f"{task.name} alone", (settled or {}).get(key))
            models += fitted.bundle.models
            curves |= curves_of(fitted.history, [task.name])
            epochs[key] = best_epochs(fitted)
        return FittedArm(models, settled=epochs, curves=curves)
