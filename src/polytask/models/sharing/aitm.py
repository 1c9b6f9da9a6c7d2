"""Adaptive information transfer along a chain of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._towers import dense_layers
from polytask.models.sharing.sharing import Features, Sharing
from polytask.models.stages import ByName, run_stages
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["AITM"]


class AITM(Sharing):
    r"""A chain of tasks in which each weighs, row by row, what the one before it knows against what it knows itself.

    With the task's tower output :math:`q_t` and what the task before passes on, :math:`p_{t-1} = g_{t-1}(z_{t-1})`,

    .. math::

        z_t = \sum_{u \in \{p_{t-1}, q_t\}} w_u\, h_1(u), \qquad
        w_u = \mathrm{softmax}_u \left( \frac{\langle h_2(u), h_3(u) \rangle}{\sqrt{D}} \right), \qquad z_1 = q_1,

    with linear :math:`h_1, h_2, h_3` of the task's own.

    Args:
        encoder: The encoder; all its stages are the shared trunk.
        tasks: Names of the tasks.
        chain: The tasks in order; all of them if not given. Other tasks stand alone.
        tower_widths: Widths of the dense layers of each task's tower.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the chain names something that is no task of the run.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8,))
        >>> sharing = AITM(encoder, ["click", "buy"], tower_widths=(6,))
        >>> sharing(torch.zeros(2, 4))["buy"].shape
        torch.Size([2, 6])
        >>> list(sharing.gate_use()["buy"])
        ['from click', 'own']

    Note:
        A task that is asked runs the towers before it in the chain, not their heads. The paper's calibrator, a penalty
        on predictions that grow along the chain, is left out; ESMM's product rules such predictions out.

    References:
        Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with Multi-task Learning in
        Targeted Display Advertising", KDD 2021, equations 3 to 6.
    """

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        chain: Sequence[str] | None = None,
        tower_widths: Sequence[int] = (64,),
    ):
        super().__init__(encoder, tasks)
        self.chain = tuple(self.tasks if chain is None else chain)
        unknown = [name for name in self.chain if name not in self.tasks]
        if unknown or len(set(self.chain)) != len(self.chain):
            raise RecipeError(f"AITM needs a chain of different tasks of this run, got {list(self.chain)}.")
        self.trunk = nn.ModuleList(encoder.stages)
        self.width = tower_widths[-1] if tower_widths else encoder.width
        self.towers = ByName({task: dense_layers(encoder.width, tower_widths) for task in self.tasks})
        self.transfers = ByName({task: _Transfer(self.width) for task in self.chain[1:]})

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The trunk once, then along the chain as far as any asked task needs."""
        trunk = run_stages(self.trunk, inputs, source)
        needed = {name for task in tasks for name in self._before(task)}
        known: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for task in (*self.chain, *(t for t in tasks if t not in self.chain)):
            if task not in needed:
                continue
            known[task] = self.towers[task](trunk)
            if task in self.transfers:
                earlier = known[self.chain[self.chain.index(task) - 1]]
                known[task], weights[task] = self.transfers[task](earlier, known[task])
        self._note_gates({task: w for task, w in weights.items() if task in tasks})
        return {task: known[task] for task in tasks}

    def _before(self, task: str) -> tuple[str, ...]:
        return self.chain[: self.chain.index(task) + 1] if task in self.chain else (task,)

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk, and the towers and transfers up to the task."""
        parts: list[nn.Module] = [self.trunk]
        for name in self._before(task):
            parts += [self.towers[name], *([self.transfers[name]] if name in self.transfers else [])]
        return [parameter for part in parts for parameter in part.parameters()]

    def expert_names(self, task: str) -> list[str]:
        """What the task before passes on, and the task's own tower."""
        return [f"from {self.chain[self.chain.index(task) - 1]}", "own"]


class _Transfer(nn.Module):
    """What one task takes over from the task before it."""

    def __init__(self, width: int):
        super().__init__()
        self.passed = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.value = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)

    def forward(
        self, earlier: Float[Tensor, "B D"], own: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B 2"]]:
        u = torch.stack([self.passed(earlier), own], 1)
        scores = (self.query(u) * self.key(u)).sum(-1) / u.shape[-1] ** 0.5
        weights = scores.softmax(1)
        return torch.einsum("bu,bud->bd", weights, self.value(u)), weights
