"""Towers: copies of an encoder's stages that belong to one task each."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from polytask.models.dropout import Dropout
from polytask.models.stages import ByName, fresh_copy
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["dense_layers", "make_towers", "repeated", "stacked_parameters"]


def make_towers(tasks: Sequence[str], stages: Sequence[nn.Module], *, fresh: bool = True) -> ByName:
    """A tower of its own for each task; the first task takes the stages over.

    So one task is exactly the encoder that was given. The other towers are drawn anew, or start equal to the first.
    """
    again = fresh_copy if fresh else copy.deepcopy
    towers = [list(stages), *([again(stage) for stage in stages] for _ in tasks[1:])]
    return ByName({task: nn.ModuleList(tower) for task, tower in zip(tasks, towers, strict=True)})


def dense_layers(width: int, widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Dense layers with ReLU, from ``width`` to the last of ``widths``."""
    layers: list[nn.Module] = []
    for after in widths:
        layers += [nn.Linear(width, after), nn.ReLU(), *([Dropout(dropout)] if dropout else [])]
        width = after
    return nn.Sequential(*layers)


def stacked_parameters(towers: ByName, tasks: Sequence[str]) -> list[Float[Tensor, "T ..."]]:
    """The towers' parameters, those at the same place in one tensor."""
    each = [list(towers[task].parameters()) for task in tasks]
    return [torch.stack(same) for same in zip(*each, strict=True)]


def repeated(inputs: Inputs, n: int) -> Inputs:
    """The same rows ``n`` times one after another, for ``n`` tasks in one batch."""
    if isinstance(inputs, Tensor):
        return inputs.repeat(n, *[1] * (inputs.ndim - 1))
    return {name: field.repeat(n, *[1] * (field.ndim - 1)) for name, field in inputs.items()}
