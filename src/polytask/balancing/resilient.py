"""Resilient steps on positive weights, one step size per task, with all of its state in buffers."""

from __future__ import annotations

import torch
from torch import nn

from polytask.shapes import Float, Int, Tensor

__all__ = ["PerTaskResilient"]

_FIRST, _LEAST, _MOST = 0.1, 1e-4, 0.5
_ROUNDING = 1e-9
"""Slopes below this have no sign: that of a task which is alone is zero but for rounding."""


class PerTaskResilient(nn.Module):
    """Rprop (Riedmiller and Braun 1993) on the logarithms of positive weights.

    A task's step grows while its slope keeps its sign and halves when it changes, so that no curvature has to be known;
    near the solution steps are also in proportion to the slope. A slope that may be rounding says nothing, and leaves
    the task's step as it is.

    Args:
        n_tasks: Number of tasks.

    Example:
        >>> steps = PerTaskResilient(2)
        >>> index, weights = torch.arange(2), torch.ones(2, dtype=torch.float64)
        >>> for _ in range(60):
        ...     weights = steps.step(weights, weights * torch.tensor([0.5, 4.0]) - 1.0, index)
        >>> weights.round(decimals=4)
        tensor([2.0000, 0.2500], dtype=torch.float64)
    """

    size: Tensor
    side: Tensor

    def __init__(self, n_tasks: int):
        super().__init__()
        self.register_buffer("size", torch.full((n_tasks,), _FIRST, dtype=torch.float64))
        self.register_buffer("side", torch.zeros(n_tasks, dtype=torch.float64))

    def step(
        self, weights: Float[Tensor, " T"], slope: Float[Tensor, " T"], index: Int[Tensor, " T"]
    ) -> Float[Tensor, " T"]:
        """The weights moved against the slope; the slope's size is in units of the weight's own pull."""
        slope, at = slope.to(self.size), index.to(self.size.device)
        side = torch.where(slope.abs() > _ROUNDING, torch.sign(slope), 0.0)
        agrees = side * self.side[at]
        factor = torch.ones_like(slope).masked_fill(agrees > 0, 1.2).masked_fill(agrees < 0, 0.5)
        size = (self.size[at] * factor).clamp(_LEAST, _MOST)
        self.size[at], self.side[at] = size, torch.where(side == 0.0, self.side[at], side)
        return weights * torch.exp(-size * side * (2.0 * slope.abs()).clamp(max=1.0)).to(weights)
