"""The contract of sharing: inputs to one representation per task, and where gradients meet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.heads import Heads, Hidden
from polytask.ranges import Ranges
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["Features", "Sharing", "split_stages"]

Features: TypeAlias = "Tensor | dict[str, Tensor]"
"""The tensors at which the shared part ends: one for all tasks, or one for each."""


class Sharing(nn.Module, ABC):
    """Takes an encoder apart and serves each task from shared and private pieces.

    The computation has two halves: :meth:`shared` runs everything that more than one task reaches and ends in
    the features; :meth:`private` takes each task from there to its representation. The balancer needs the gradients
    of the first half only, and makes the second half's backward pass once. Where no tensor separates the two,
    because a task's own parameters feed shared ones, the sharing says that it is ``interleaved``.

    Args:
        encoder: Built for all the sources; its stages are taken over (copied where a task needs its own).
        tasks: Names of the tasks, in order.

    Class attributes:
        interleaved: Whether private parameters lie among shared ones, so that the balancer takes the gradients
            from the losses. If not, everything below the features is shared and everything above is private.
        ranges: What ``polytask study --search`` tries of its options; it does not try the method at all if ``None``.
        exports: Whether ``torch.export`` takes the forward pass, with a batch of any size.
        reads_rows: Whether the penalty depends on the rows of the last batch, and not on parameters alone.
    """

    interleaved: ClassVar[bool] = False
    exports: ClassVar[bool] = True
    reads_rows: bool = False
    ranges: ClassVar[Ranges | None] = None

    width: int
    """Width D of each task's representation."""

    def __init__(self, encoder: Encoder, tasks: Sequence[str]):
        super().__init__()
        if not tasks:
            raise RecipeError("Sharing needs at least one task, got none.")
        self.tasks = tuple(tasks)
        self.width = encoder.width
        self.n_members = encoder.n_members
        self.has_elements = encoder.has_elements
        self.has_pixels = encoder.has_pixels
        self.present = encoder.presence()
        self._gate_use: dict[str, Tensor] = {}

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

    def make_heads(self, n_outputs: Mapping[str, int], hidden: Hidden = ()) -> Heads:
        """The heads that belong on top; a sharing in which tasks meet in the output layer has its own."""
        return Heads(self.width, n_outputs, hidden, self.n_members)

    def combine(self, outputs: Mapping[str, Float[Tensor, "B O"]]) -> dict[str, Float[Tensor, "B O"]]:
        """Turn the heads' outputs into the tasks' outputs; the same unless tasks are chained by their outputs."""
        return dict(outputs)

    def combined_from(self, task: str) -> tuple[str, ...]:
        """The tasks whose heads :meth:`combine` needs for this task, itself included."""
        return (task,)

    def reached_through(self, task: str) -> tuple[str, ...]:
        """Those of :meth:`combined_from` whose heads the task's loss trains; all, unless outputs are detached."""
        return self.combined_from(task)

    def combined_with(self, task: str) -> list[nn.Parameter]:
        """Parameters of :meth:`combine` that the task's loss trains."""
        return []

    def head_biases(self, biases: Mapping[str, Float[Tensor, " O"]]) -> dict[str, Float[Tensor, " O"]]:
        """Biases of the heads with which the combined outputs start at the given ones."""
        return dict(biases)

    def check_kinds(self, kinds: Mapping[str, str]) -> None:
        """Raise if the sharing has no meaning for these kinds of tasks.

        Raises:
            RecipeError: If so; by default never.
        """

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that more than one task reaches: where gradients meet."""
        count: dict[nn.Parameter, int] = {}
        for task in self.tasks:
            for parameter in dict.fromkeys(self.reached_by(task)):
                count[parameter] = count.get(parameter, 0) + 1
        return [parameter for parameter in self.parameters() if count.get(parameter, 0) > 1]

    def penalty(self) -> Tensor | None:
        """A term that this way of sharing adds to the joint loss, or ``None``.

        It is a function of the parameters (and of detached tensors of the last forward pass), so that its gradient
        may be taken after the losses' graph is gone.
        """
        return None

    def gate_use(self) -> Mapping[str, Mapping[str, float]]:
        """For sharing with gates: per task, the mean weight of each expert in the last batch; else empty."""
        return {
            task: dict(zip(self.expert_names(task), weights.tolist(), strict=True))
            for task, weights in self._gate_use.items()
        }

    def expert_names(self, task: str) -> list[str]:
        """Names of the experts among which the task's gate chooses, in the gate's order."""
        return []

    def count_parameters(self) -> dict[str, int]:
        """Numbers of parameters: ``shared`` by several tasks, and ``private`` to one."""
        shared = sum(parameter.numel() for parameter in self.shared_parameters())
        return {"shared": shared, "private": sum(p.numel() for p in self.parameters()) - shared}

    def _note_gates(self, weights: Mapping[str, Float[Tensor, "B E"]]) -> None:
        """Remember the mean weights, for the report only: they are no state and take no part in any computation."""
        if not torch.compiler.is_exporting():
            self._gate_use.update({task: w.detach().mean(0) for task, w in weights.items()})

    def forget_gates(self) -> None:
        """Forget what the last batch did, as when it was many batches in one."""
        self._gate_use.clear()

    def __getstate__(self) -> dict[str, object]:
        # A copy of a network starts with no memory of batches.
        return self.__dict__ | {"_gate_use": {}}


def split_stages(who: str, encoder: Encoder, ratio: float) -> tuple[nn.ModuleList, list[nn.Module]]:
    """The stages below and above the split point at ``ratio`` of them.

    Raises:
        RecipeError: If the ratio is not in [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise RecipeError(f"{who} needs a ratio between 0 and 1, got {ratio!r}.")
    stages = list(encoder.stages)
    split = round(ratio * len(stages))
    return nn.ModuleList(stages[:split]), stages[split:]
