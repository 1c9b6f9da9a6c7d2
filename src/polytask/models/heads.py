"""Heads: a task's representation to its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import nn

from polytask.models.stages import ByName
from polytask.shapes import Float, Tensor

__all__ = ["Heads", "Hidden", "hidden_of"]

Hidden: TypeAlias = "Sequence[int] | Mapping[str, Sequence[int]]"
"""Widths of hidden layers: of all heads, or by task."""


def hidden_of(hidden: Hidden, task: str) -> Sequence[int]:
    """Widths of the task's hidden layers; none if it is not named."""
    return hidden.get(task, ()) if isinstance(hidden, Mapping) else hidden


class Heads(nn.Module):
    """One head per task: a linear layer, with hidden layers before it if asked.

    Args:
        width: Width D of the representations.
        n_outputs: Width O of each task's outputs.
        hidden: Widths of hidden layers in every head, or of each task's own.
        n_members: Number of members of an ensemble whose rows lie together; each has a last layer of its own.

    Shape:
        per task ``[B, D]`` -> per task ``[B, O]``
    """

    def __init__(self, width: int, n_outputs: Mapping[str, int], hidden: Hidden = (), n_members: int = 1):
        super().__init__()
        each = {task: (n, hidden_of(hidden, task)) for task, n in n_outputs.items()}
        self.by_task = ByName({task: _head(width, n, own, n_members) for task, (n, own) in each.items()})
        self.together = False
        """Whether heads on one representation run as one layer: faster, but not task by task going back."""

    def forward(self, representations: Mapping[str, Float[Tensor, "B D"]]) -> dict[str, Float[Tensor, "B O"]]:
        """Each given task's outputs."""
        # Only in training: in prediction a task's last bits must not depend on which others are asked.
        if self.together and self.training and len(representations) > 1:
            stacked = self._stacked(representations)
            if stacked is not None:
                return stacked
        return {task: self.by_task[task](rep) for task, rep in representations.items()}

    def _stacked(self, representations: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The outputs by one layer; ``None`` if the representations differ, or a head has hidden layers."""
        heads = [self.by_task[task] for task in representations]
        first, *rest = representations.values()
        if any(rep is not first for rep in rest):
            return None
        if all(type(head) is _MemberLinear for head in heads):
            outputs = torch.cat([head.bias for head in heads], -1)  # type: ignore[misc]
            members = first.unflatten(0, (-1, len(outputs)))
            weight = torch.cat([head.weight for head in heads], -1)  # type: ignore[misc]
            outputs = torch.einsum("bkd,kdo->bko", members, weight).add(outputs).flatten(0, 1)
        elif all(type(head) is nn.Linear for head in heads):
            weight, bias = (torch.cat([getattr(head, name) for head in heads]) for name in ("weight", "bias"))
            outputs = nn.functional.linear(first, weight, bias)
        else:
            return None
        widths = [head.bias.shape[-1] for head in heads]  # type: ignore[union-attr, index]
        return dict(zip(representations, outputs.split(widths, dim=-1), strict=True))

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


class _MemberLinear(nn.Module):
    """A dense layer of its own for each member: ``[B * k, D]`` to ``[B * k, O]``."""

    without_decay = ("bias",)

    def __init__(self, width: int, n_outputs: int, n_members: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_members, width, n_outputs))
        self.bias = nn.Parameter(torch.empty(n_members, n_outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "Bk D"]) -> Float[Tensor, "Bk O"]:
        members = x.unflatten(0, (-1, len(self.weight)))
        return torch.einsum("bkd,kdo->bko", members, self.weight).add(self.bias).flatten(0, 1)


def _head(width: int, n_outputs: int, hidden: Sequence[int], n_members: int) -> nn.Module:
    def last(before: int) -> nn.Module:
        return nn.Linear(before, n_outputs) if n_members == 1 else _MemberLinear(before, n_outputs, n_members)

    if not hidden:
        return last(width)
    layers: list[nn.Module] = []
    for after in hidden:
        layers += [nn.Linear(width, after), nn.ReLU()]
        width = after
    return nn.Sequential(*layers, last(width))
