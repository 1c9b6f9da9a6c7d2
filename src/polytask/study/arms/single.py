"""One network for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from polytask.bundle import BundledModel
from polytask.study.arm import FittedArm, FoldData
from polytask.study.networks import NetworkArm, asked, best_epochs, curves_of, notes_of
from polytask.training.run import Fitted
from polytask.training.stacked import Asked

__all__ = ["Single"]


class Single(NetworkArm):
    """One network per task: the twin that a joint network is judged against.

    Each has the joint network's encoder, head, optimiser, batches and largest number of steps, and stops early by its
    own task alone.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Note:
        One training and one network for each task: time, memory and parameters grow with the number of tasks. Trainings
        of one shape can be done together. A task with few labels has nothing but these.
    """

    role: ClassVar[str] = "single"
    is_per_task: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One network per task, with the joint network's architecture and largest number of steps."

    def trainings(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> list[Asked]:
        """One network after the other."""
        found = []
        for task in fold.tasks:
            mine = fold.only([task.name])
            epochs = (settled or {}).get(f"epochs {task.name}")
            found.append(asked(mine, fold.plan.alone(), f"{task.name} alone", epochs))
        return found

    def assemble(self, fold: FoldData, fitted: Sequence[Fitted]) -> FittedArm:
        """All networks side by side."""
        models: list[BundledModel] = []
        curves: dict[str, Any] = {}
        epochs: dict[str, float] = {}
        for task, one in zip(fold.tasks, fitted, strict=True):
            models += one.bundle.networks
            curves |= curves_of(one.history, [task.name])
            epochs[f"epochs {task.name}"] = best_epochs(one)
        return FittedArm(models, settled=epochs, curves=curves, notes=notes_of(fitted))
