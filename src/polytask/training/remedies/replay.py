"""Replay of kept rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from polytask.data.batch import Batch
from polytask.shapes import Tensor
from polytask.training.remedies._memory import Remembering
from polytask.training.remedy import Scene

__all__ = ["Replay"]


@dataclass
class Replay(Remembering):
    r"""Trains earlier tasks on with a few of their rows, kept in a memory with a bound.

    Each step draws rows from the memory and adds :math:`\lambda` times the earlier tasks' losses on them.

    Args:
        strength: :math:`\lambda`.
        rows: Most rows in the memory, of all earlier stages together.
        bytes: Most bytes that the memory may have, or ``None``.
        keeping: ``reservoir``: every row of every stage with the same probability; ``class_balanced``: the classes of
            all stages equally.
        batch: Rows drawn in each step, without replacement.

    Raises:
        RecipeError: If an option is out of range.

    Example:
        >>> Replay(rows=200, keeping="class_balanced").batch
        32

    Note:
        A task's loss counts in proportion to its rows among those drawn. The heads of earlier tasks are trained too.
        The memory is filled at the end of a stage with one look at each training row; it holds positions of rows,
        because a run holds the rows already, and its bound counts the rows themselves. One forward and backward pass
        more a step. Numbers have no classes: their rows are balanced between stages only.

    References:
        Rolnick et al., "Experience Replay for Continual Learning", NeurIPS 2019; Chaudhry et al., "On Tiny Episodic
        Memories in Continual Learning", arXiv:1902.10486, 2019 (reservoir); Chrysakis and Moens, "Online Continual
        Learning from Imbalanced Data", ICML 2020 (class-balanced).
    """

    reads_rows: ClassVar[bool] = True

    def opens(self, scene: Scene) -> list[nn.Parameter]:
        """What earlier tasks reach."""
        return [p for task in scene.learned for p in scene.model.reached_by(task)] if self.memory.capacity else []

    def term(self, batches: Sequence[Batch], step: int) -> Tensor | None:
        """The losses of earlier tasks on rows of the memory."""
        if not self.is_remembering:
            return None
        return self.strength * sum(self.remembered(step).values(), torch.zeros(()))
