"""Adam on one number per task, with all of its state in buffers."""

from __future__ import annotations

import torch
from torch import nn

from polytask.shapes import Float, Int, Tensor

__all__ = ["PerTaskAdam"]


class PerTaskAdam(nn.Module):
    """Adam (Kingma and Ba 2015) in which every task has its own moments and its own count of steps.

    Args:
        n_tasks: Number of tasks.
        lr: Learning rate.
        decay: Weight decay, added to the gradient as in the paper's L2 form.

    Example:
        >>> values = torch.zeros(3, dtype=torch.float64)
        >>> PerTaskAdam(3, lr=0.1).step(values, torch.tensor([2.0]), torch.tensor([1]))
        >>> values
        tensor([ 0.0000, -0.1000,  0.0000], dtype=torch.float64)
    """

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(self, n_tasks: int, lr: float, *, decay: float = 0.0):
        super().__init__()
        self.lr = lr
        self.decay = decay
        for name in ("first", "second", "count"):
            self.register_buffer(name, torch.zeros(n_tasks, dtype=torch.float64))

    def step(self, values: Float[Tensor, " N"], gradient: Float[Tensor, " T"], index: Int[Tensor, " T"]) -> None:
        """Move ``values`` at ``index`` against the gradient, in place."""
        gradient = gradient.to(values) + self.decay * values[index]
        self.count[index] += 1.0
        self.first[index] += 0.1 * (gradient - self.first[index])
        self.second[index] += 0.001 * (gradient * gradient - self.second[index])
        mean = self.first[index] / (1.0 - 0.9 ** self.count[index])
        scale = (self.second[index] / (1.0 - 0.999 ** self.count[index])).sqrt()
        values[index] -= self.lr * mean / (scale + 1e-8)
