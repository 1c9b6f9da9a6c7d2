"""Multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._experts import ExpertPlan, Gate, GateReader, mix_for_each
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import ByName, run_stages
from polytask.ranges import Range, Ranges
from polytask.shapes import Inputs

__all__ = ["MMoE"]


class MMoE(Sharing):
    r"""Experts common to all tasks, and for each task a gate that mixes them row by row.

    With trunk output :math:`x` and experts :math:`f_1, \dots, f_E`,

    .. math:: h_t(x) = \sum_e g_t(x)_e f_e(x), \qquad g_t(x) = \mathrm{softmax}(W_t x + b_t).

    Args:
        encoder: The encoder; an expert is a copy of its stages above the split, followed by dense layers.
        tasks: Names of the tasks.
        n_experts: Number of experts.
        ratio: Share of the encoder's stages in the trunk, in [0, 1]. At 0 each expert is a whole network and the gates
            read the raw inputs, as in the paper; at 1 the experts are the dense layers only.
        expert_widths: Widths of the dense layers of each expert.
        dropout: Probability of dropping a unit after each dense layer.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If there is no expert, or an expert has no layer.

    Example:
        >>> import torch
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8,))
        >>> sharing = MMoE(encoder, ["a", "b"], n_experts=3, expert_widths=(5,))
        >>> sharing(torch.zeros(2, 4))["b"].shape
        torch.Size([2, 5])
        >>> round(sum(sharing.gate_use()["a"].values()), 6)
        1.0

    Note:
        Dense experts run as one grouped product. The experts run once, whatever the number of tasks asked. When
        tasks disagree, gates give them experts of their own; when they agree, hard sharing is smaller and as good.

    References:
        Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018,
        equations 5 to 7.
    """

    ranges: ClassVar[Ranges | None] = {"n_experts": Range(2, 8, whole=True)}

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        n_experts: int = 8,
        ratio: float = 1.0,
        expert_widths: Sequence[int] = (128,),
        dropout: float = 0.0,
    ):
        super().__init__(encoder, tasks)
        if n_experts < 1:
            raise RecipeError(f"MMoE needs at least one expert, got {n_experts}.")
        self.n_experts = n_experts
        self.trunk, above = split_stages("MMoE", encoder, ratio)
        plan = ExpertPlan("MMoE", encoder, above, expert_widths, dropout)
        self.width = plan.width
        self.experts = plan.make(n_experts)
        self.reader = GateReader("MMoE", encoder, self.trunk)
        self.gates = ByName({task: Gate(self.reader.width, n_experts) for task in self.tasks})

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """All experts once, and the asked tasks' mixtures of them."""
        below = run_stages(self.trunk, inputs, source)
        read = self.reader(inputs, below, source)
        weights = {task: self.gates[task](read) for task in tasks}
        self._note_gates(weights)
        return mix_for_each(weights, self.experts.spread(below, source).transpose(0, 1))

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """Trunk, experts, and the task's own gate."""
        parts = (self.trunk, self.experts, self.reader, self.gates[task])
        return [parameter for part in parts for parameter in part.parameters()]

    def expert_names(self, task: str) -> list[str]:
        """All experts, by number."""
        return [f"expert {i + 1}" for i in range(self.n_experts)]
