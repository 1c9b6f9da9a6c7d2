"""The best constant answer of each task: what every model has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from polytask.bundle import Lines
from polytask.bundle.columns import input_matrix
from polytask.study.arm import Arm, FittedArm, FoldData

__all__ = ["Constant"]


class Constant(Arm):
    """The best constant answer of each task, such as the mean of its training labels: it looks at no input.

    A study chooses it where no arm is clearly better, whether it is among the arms or not.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Note:
        It costs no training: the constants come from the training labels. Tags, masks and other answers of elements
        have no constant, and are left out.
    """

    role: ClassVar[str] = "constant"
    is_per_task: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """What the arm is."""
        return "The best constant answer of each task, such as the mean of its labels; no input is read."

    def why_not(self, fold: FoldData) -> str:
        """There must be a task whose answer is not one of elements, in a source that plain models read."""
        if all(task.of_elements for task in fold.tasks):
            return "tags, masks and the like have no constant answer that could be given without reading the inputs"
        if all(source in fold.prepared.files for source in fold.prepared.train):
            return "it reads no files of pixels or waves"
        return ""

    def fit(self, fold: FoldData, settled: Mapping[str, Any] | None = None) -> FittedArm:
        """Take the constants of the training labels."""
        tasks = [task for task in fold.tasks if not task.of_elements]
        row = fold.plain["train"][fold.source].take(torch.zeros(1, dtype=torch.int64))
        n_inputs = input_matrix(row.inputs, ()).shape[1]
        constants = np.concatenate([task.initial_bias().double().numpy() for task in tasks])
        nothing = np.zeros((len(constants), n_inputs))
        widths = {task.name: task.n_outputs for task in tasks}
        return FittedArm([Lines(fold.source, widths, nothing, constants, encoding=fold.encoding)])
