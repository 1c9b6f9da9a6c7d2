"""Heads: a task's representation to its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from polytask.models.stages import ByName
from polytask.shapes import Float, Tensor

__all__ = ["Heads"]


class Heads(nn.Module):
    """One head per task: a linear layer, with hidden layers before it if asked.

    Args:
        width: Width D of the representations.
        n_outputs: Width O of each task's outputs.
        hidden: Widths of hidden layers in every head.

    Shape:
        per task ``[B, D]`` -> per task ``[B, O]``
    """

    def __init__(self, width: int, n_outputs: Mapping[str, int], hidden: Sequence[int] = ()):
        super().__init__()
        self.by_task = ByName({task: _head(width, n, hidden) for task, n in n_outputs.items()})

    def forward(self, representations: Mapping[str, Float[Tensor, "B D"]]) -> dict[str, Float[Tensor, "B O"]]:
        """Each given task's outputs."""
        return {task: self.by_task[task](rep) for task, rep in representations.items()}

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """Parameters that the task's head depends on."""
        return list(self.by_task[task].parameters())

    def start_at(self, biases: Mapping[str, Float[Tensor, " O"]]) -> None:
        """Set the last layer's bias, so that the first outputs are right on average."""
        for task, bias in biases.items():
            last = self.by_task[task]
            last = last[-1] if isinstance(last, nn.Sequential) else last
            with torch.no_grad():
                last.bias.copy_(bias)  # type: ignore[operator, union-attr]


def _head(width: int, n_outputs: int, hidden: Sequence[int]) -> nn.Module:
    if not hidden:
        return nn.Linear(width, n_outputs)
    layers: list[nn.Module] = []
    for after in hidden:
        layers += [nn.Linear(width, after), nn.ReLU()]
        width = after
    return nn.Sequential(*layers, nn.Linear(width, n_outputs))
