"""One level of extraction: shared experts and each task's own, mixed by gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from polytask.models.sharing._copies import Copies
from polytask.models.sharing._experts import ExpertPlan, Gate, mix
from polytask.models.stages import ByName
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["Extracted", "Extraction"]


@dataclass(frozen=True)
class Extracted:
    """What a level gives.

    Args:
        mixed: Each task's mixture.
        shared: The shared gate's mixture; ``None`` if there is none.
        weights: Each task's gate weights, its own experts first.
    """

    mixed: dict[str, Float[Tensor, "B D"]]
    shared: Float[Tensor, "B D"] | None
    weights: dict[str, Float[Tensor, "B E"]]


class Extraction(nn.Module):
    """Shared experts and experts of each task's own; a gate per task mixes the shared ones and the task's own.

    The experts of one kind run as one grouped product; the tasks run one by one, so that no task's backward pass goes
    through another's experts.

    Args:
        tasks: Names of the tasks.
        plan: Makes the experts.
        n_shared: Number of shared experts.
        n_private: Number of experts of each task's own.
        read_width: Width of what the gates read.
        feeds_next: Whether another level reads this one; then a shared gate mixes all the experts for the shared
            experts of the next level.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        plan: ExpertPlan,
        n_shared: int,
        n_private: int,
        read_width: int,
        feeds_next: bool,
    ):
        super().__init__()
        self.tasks = tuple(tasks)
        self.n_shared, self.n_private = n_shared, n_private
        self.own = ByName({task: plan.make(n_private) for task in tasks} if n_private else {})
        self.common = plan.make(n_shared) if n_shared else None
        self.gates = ByName({task: Gate(read_width, n_private + n_shared) for task in tasks})
        n_all = n_shared + n_private * len(self.tasks)
        self.shared_gate = Gate(read_width, n_all) if feeds_next and n_shared else None

    def needed(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Tasks whose own experts must run so that the given tasks can be served."""
        return self.tasks if self.shared_gate is not None else tuple(tasks)

    def first(
        self, below: Inputs, read: Float[Tensor, "B G"], tasks: Sequence[str], source: str | None = None
    ) -> Extracted:
        """The lowest level, where all experts read the same rows."""
        common = None if self.common is None else self.common.spread(below, source).transpose(0, 1)
        own = {task: self._own(task).spread(below, source).transpose(0, 1) for task in tasks if self.n_private}
        return self._mixed(tasks, dict.fromkeys(tasks, read), read, own, common)

    def above(self, below: Extracted, tasks: Sequence[str]) -> Extracted:
        """A higher level, where each task's experts read the task's own mixture of the level below."""
        common = None
        if self.common is not None and below.shared is not None:
            common = self.common.spread(below.shared).transpose(0, 1)
        own = {task: self._own(task).spread(below.mixed[task]).transpose(0, 1) for task in tasks if self.n_private}
        return self._mixed(tasks, below.mixed, below.shared, own, common)

    def _own(self, task: str) -> Copies:
        return self.own[task]  # type: ignore[return-value]

    def _mixed(
        self,
        tasks: Sequence[str],
        read: dict[str, Tensor],
        shared_read: Tensor | None,
        own: dict[str, Float[Tensor, "B m D"]],
        common: Float[Tensor, "B n D"] | None,
    ) -> Extracted:
        weights = {task: self.gates[task](read[task]) for task in tasks}
        mixed = {task: mix(w, _joined([own.get(task), common])) for task, w in weights.items()}
        shared = None
        if self.shared_gate is not None and shared_read is not None:
            shared = mix(self.shared_gate(shared_read), _joined([*own.values(), common]))
        return Extracted(mixed, shared, weights)

    def reached_by(self, task: str, levels_above: int) -> list[nn.Parameter]:
        """Parameters of this level that the task reaches, with that many levels above."""
        met_by_all = self.n_shared > 0
        parts: list[nn.Module] = []
        for other in self.tasks:
            if self.n_private and (other == task or (met_by_all and levels_above >= 1)):
                parts.append(self.own[other])
            if other == task or (met_by_all and self.n_private > 0 and levels_above >= 2):
                parts.append(self.gates[other])
        parts += [part for part in (self.common, self.shared_gate) if part is not None]
        return [parameter for part in parts for parameter in part.parameters()]

    def expert_names(self) -> list[str]:
        """Names of the experts of a task, in the gate's order."""
        own = [f"own {i + 1}" for i in range(self.n_private)]
        return own + [f"shared {i + 1}" for i in range(self.n_shared)]


def _joined(parts: Sequence[Tensor | None]) -> Float[Tensor, "B E D"]:
    present = [part for part in parts if part is not None]
    return present[0] if len(present) == 1 else torch.cat(present, 1)
