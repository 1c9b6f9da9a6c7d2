"""Averaged gradient episodic memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.training.ranks import here
from polytask.training.remedies._memory import Remembering
from polytask.training.remedy import Scene

__all__ = ["AGEM"]


@dataclass
class AGEM(Remembering):
    r"""Takes from each step what would raise the loss of kept rows of earlier tasks.

    With the step's gradient :math:`g` and that of the earlier tasks' loss on rows of a memory, :math:`r`,

    .. math:: g \leftarrow g - \lambda\, \frac{\min(g^\top r, 0)}{r^\top r}\, r .

    Args:
        strength: :math:`\lambda` in [0, 1]; at 1 no step raises that loss, to first order.
        rows: Most rows in the memory.
        bytes: Most bytes that the memory may have, or ``None``.
        keeping: ``reservoir`` or ``class_balanced``, see ``replay``.
        batch: Rows drawn in each step.

    Raises:
        RecipeError: If an option is out of range.

    Example:
        >>> AGEM().rows
        500

    Note:
        The gradients are those of all parameters together, heads of earlier tasks included, which so are changed too.
        First order means the gradient: Adam's step is another direction, and so may weight decay be. One forward
        and backward pass more a step. Kept rows are never trained on, so that ``replay`` is often the stronger one.

    References:
        Chaudhry et al., "Efficient Lifelong Learning with A-GEM", ICLR 2019, equation 11.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strength > 1:
            raise RecipeError(f"{self.who} needs a strength in [0, 1], got {self.strength!r}.")

    def opens(self, scene: Scene) -> list[nn.Parameter]:
        """What earlier tasks reach."""
        return [p for task in scene.learned for p in scene.model.reached_by(task)] if self.memory.capacity else []

    def before_update(self, batches: Sequence[Batch], step: int) -> None:
        """Project the gradient, if it points against that of the memory."""
        losses = self.remembered(step)
        if not losses and not self.is_remembering:  # none of the rows may be this process's, and some be another's
            return
        parameters = [p for p in self.here.model.parameters() if p.requires_grad]
        total = here().sum_of(sum(losses.values(), torch.zeros(())), parameters)
        if total is None or not total.requires_grad:
            return
        reference = torch.autograd.grad(total, parameters, allow_unused=True)
        pairs = [(p, r) for p, r in zip(parameters, reference, strict=True) if r is not None]
        inner = sum(((p.grad * r).sum(dtype=torch.float64) for p, r in pairs if p.grad is not None), torch.zeros(()))
        square = sum((r.square().sum(dtype=torch.float64) for _, r in pairs), torch.zeros(()))
        if not inner < 0 or not square > 0:
            return
        factor = (self.strength * inner / square).item()
        for p, r in pairs:
            p.grad = -factor * r if p.grad is None else p.grad - factor * r
