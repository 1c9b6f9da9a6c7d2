"""The contract of sharing: inputs to one representation per task, and where gradients meet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.shapes import Inputs, Tensor

__all__ = ["Features", "Sharing"]

Features: TypeAlias = "Tensor | dict[str, Tensor]"
"""The tensors at which the shared part ends: one for all tasks, or one for each."""


class Sharing(nn.Module, ABC):
    """Takes an encoder apart and serves each task from shared and private pieces.

    The computation has two halves: :meth:`shared` runs everything that more than one task reaches and ends in
    the features; :meth:`private` takes each task from there to its representation. The balancer needs the gradients
    of the first half only, and makes the second half's backward pass once.

    Args:
        encoder: Built for all the sources; its stages are taken over (copied where a task needs its own).
        tasks: Names of the tasks, in order.
    """

    width: int
    """Width D of each task's representation."""

    def __init__(self, encoder: Encoder, tasks: Sequence[str]):
        super().__init__()
        if not tasks:
            raise RecipeError("Sharing needs at least one task, got none.")
        self.tasks = tuple(tasks)
        self.width = encoder.width

    @abstractmethod
    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """Run what several tasks share, for the given tasks."""

    def private(self, features: Features, tasks: Sequence[str], source: str | None = None) -> dict[str, Tensor]:
        """Take each task from the features to its representation; by default they are the same."""
        if isinstance(features, Tensor):
            return dict.fromkeys(tasks, features)
        return {task: features[task] for task in tasks}

    def forward(
        self, inputs: Inputs, tasks: Sequence[str] | None = None, source: str | None = None
    ) -> dict[str, Tensor]:
        """Each task's representation ``[B, D]``."""
        asked = self.tasks if tasks is None else tuple(tasks)
        return self.private(self.shared(inputs, asked, source), asked, source)

    @abstractmethod
    def reached_by(self, task: str) -> list[nn.Parameter]:
        """Parameters that the task's representation depends on, heads left out."""

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that more than one task reaches: where gradients meet."""
        count: dict[nn.Parameter, int] = {}
        for task in self.tasks:
            for parameter in dict.fromkeys(self.reached_by(task)):
                count[parameter] = count.get(parameter, 0) + 1
        return [parameter for parameter in self.parameters() if count.get(parameter, 0) > 1]

    def penalty(self) -> Tensor | None:
        """A term that this way of sharing adds to the joint loss, or ``None``."""
        return None

    def gate_use(self) -> Mapping[str, Mapping[str, float]]:
        """For sharing with gates: per task, the mean weight of each expert in the last batch; else empty."""
        return {}

    def count_parameters(self) -> dict[str, int]:
        """Numbers of parameters: ``shared`` by several tasks, and ``private`` to one."""
        shared = sum(parameter.numel() for parameter in self.shared_parameters())
        return {"shared": shared, "private": sum(p.numel() for p in self.parameters()) - shared}
