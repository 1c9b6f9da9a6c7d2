"""Weights of one task over several things."""

from __future__ import annotations

import torch
from torch import nn

from polytask.shapes import Float, Tensor

__all__ = ["Row", "own_and_others"]


class Row(nn.Module):
    """One task's weights over several things; holds a parameter so that it can belong to the task alone."""

    weight: nn.Parameter

    def __init__(self, start: Float[Tensor, " n"]):
        super().__init__()
        self.weight = nn.Parameter(start.clone())


def own_and_others(n_tasks: int, own_weight: float) -> Float[Tensor, "T T"]:
    """``own_weight`` on the diagonal, and rows that sum to one."""
    if n_tasks == 1:
        return torch.ones(1, 1)
    other = (1 - own_weight) / (n_tasks - 1)
    return torch.full((n_tasks, n_tasks), other) + torch.eye(n_tasks) * (own_weight - other)
