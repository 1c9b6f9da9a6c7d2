"""DSelect-k: a gate that chooses few experts, and learns by gradients which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._experts import ExpertPlan, GateReader, mix_for_each
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import ByName, run_stages
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["DSelectK", "smooth_step"]


class DSelectK(Sharing):
    r"""Experts common to all tasks, of which each task's gate chooses at most k, row by row or once for all rows.

    Selector :math:`j` of a task has a code :math:`z_j \in R^m`, :math:`m = \lceil \log_2 E \rceil`. With the smooth
    step :math:`S` (0 below :math:`-\gamma/2`, 1 above :math:`\gamma/2`, a cubic between) and the binary digits
    :math:`B(i)` of expert :math:`i`,

    .. math::

        r(z)_i = \prod_{l \in B(i)} S(z_l) \prod_{l \notin B(i)} (1 - S(z_l)), \qquad
        g_t = \sum_{j=1}^k \mathrm{softmax}(\alpha)_j\, r(z_j).

    The penalty is :math:`\lambda \sum_j H(r(z_j))` with the entropy :math:`H`, which draws each selector to one expert,
    and, if E is no power of two, :math:`\lambda \sum_j 1 / \sum_{i \le E} r(z_j)_i`, which keeps it off codes without
    expert.

    Args:
        encoder: The encoder; an expert is a copy of its stages above the split, followed by dense layers.
        tasks: Names of the tasks.
        n_experts: Number of experts E.
        k: Number of experts that a task may choose.
        per_row: Whether the choice depends on the row (codes and :math:`\alpha` are linear in what the gate reads).
        entropy: :math:`\lambda`.
        gamma: Width of the smooth step.
        ratio: Share of the encoder's stages in the trunk, in [0, 1].
        expert_widths: Widths of the dense layers of each expert.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If k is not between 1 and the number of experts.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8,))
        >>> sharing = DSelectK(encoder, ["a", "b"], n_experts=4, k=2, expert_widths=(5,))
        >>> sharing(torch.zeros(2, 4))["b"].shape
        torch.Size([2, 5])

    Note:
        All experts run, as no row skips any before the gates have settled. A selector that has settled exactly has no
        gradient any more. The penalty's gradient reaches the gates only.
        Weights on codes without expert are spread over the others, so that the weights sum to one.

    References:
        Hazimeh et al., "DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to Multi-Task
        Learning", NeurIPS 2021, equations 3 to 6.
    """

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        n_experts: int = 8,
        k: int = 2,
        per_row: bool = True,
        entropy: float = 1e-3,
        gamma: float = 1.0,
        ratio: float = 1.0,
        expert_widths: Sequence[int] = (128,),
    ):
        super().__init__(encoder, tasks)
        if not 1 <= k <= n_experts:
            raise RecipeError(f"DSelect-k needs k between 1 and the number of experts, {n_experts}; got {k}.")
        self.n_experts, self.entropy = n_experts, entropy
        self.trunk, above = split_stages("DSelect-k", encoder, ratio)
        plan = ExpertPlan("DSelect-k", encoder, above, expert_widths)
        self.width = plan.width
        self.experts = plan.make(n_experts)
        self.reader = GateReader("DSelect-k", encoder, self.trunk)
        read = self.reader.width if per_row else None
        self.gates = ByName({task: _Selectors(n_experts, k, gamma, read) for task in self.tasks})
        self._read: tuple[tuple[str, ...], Tensor] | None = None
        self.reads_rows = bool(entropy) and per_row

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """All experts once, and the asked tasks' mixtures of them."""
        below = run_stages(self.trunk, inputs, source)
        read = self.reader(inputs, below, source)
        if self.training:
            self._read = tuple(tasks), read.detach()
        weights = {task: self.gates[task](read) for task in tasks}
        self._note_gates(weights)
        return mix_for_each(weights, self.experts.spread(below, source).transpose(0, 1))

    def penalty(self) -> Tensor | None:
        """Entropy of the last batch's choices, a mean over its rows."""
        if not self.entropy or self._read is None:
            return None
        tasks, read = self._read
        parts = [self.gates[task].uncertainty(read) for task in tasks]  # type: ignore[operator]
        return self.entropy * torch.stack(parts).sum()

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """Trunk, experts, and the task's own selectors."""
        parts = (self.trunk, self.experts, self.reader, self.gates[task])
        return [parameter for part in parts for parameter in part.parameters()]

    def expert_names(self, task: str) -> list[str]:
        """All experts, by number."""
        return [f"expert {i + 1}" for i in range(self.n_experts)]

    def __getstate__(self) -> dict[str, object]:
        return super().__getstate__() | {"_read": None}


def smooth_step(z: Tensor, gamma: float = 1.0) -> Tensor:
    """0 below ``-gamma / 2``, 1 above ``gamma / 2``, and a cubic with a continuous derivative between.

    Example:
        >>> smooth_step(torch.tensor([-0.5, 0.0, 0.25, 2.0])).tolist()
        [0.0, 0.5, 0.84375, 1.0]
    """
    u = (z / gamma + 0.5).clamp(0, 1)
    return u * u * (3 - 2 * u)


class _Selectors(nn.Module):
    """One task's k selectors and their weights."""

    digits: Tensor

    def __init__(self, n_experts: int, k: int, gamma: float, read_width: int | None):
        super().__init__()
        self.n_experts, self.k, self.gamma = n_experts, k, gamma
        self.m = max(math.ceil(math.log2(n_experts)), 1)
        codes = torch.arange(n_experts)
        self.register_buffer("digits", (codes.unsqueeze(1) >> torch.arange(self.m)) & 1, persistent=False)
        self.linear: nn.Linear | None = None
        if read_width is not None:
            self.linear = nn.Linear(read_width, k * (self.m + 1))
            with torch.no_grad():  # small codes, so that the choice starts undecided
                self.linear.weight[: k * self.m] *= 0.1
            return
        # Small codes, so that every digit starts undecided.
        self.codes = nn.Parameter(torch.empty(k, self.m).uniform_(-gamma / 100, gamma / 100))
        self.alpha = nn.Parameter(torch.zeros(k))

    def forward(self, read: Float[Tensor, "B G"]) -> Float[Tensor, "B E"]:
        choices, alpha = self._choices(read)
        weights = (alpha.softmax(-1).unsqueeze(-1) * choices).sum(-2)
        if 2**self.m != self.n_experts:
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
        return weights.expand(read.shape[0], -1)

    def _choices(self, read: Float[Tensor, "B G"]) -> tuple[Float[Tensor, "B k E"], Float[Tensor, "B k"]]:
        if self.linear is not None:
            z, alpha = self.linear(read).split((self.k * self.m, self.k), -1)
            z = z.unflatten(-1, (self.k, self.m))
        else:
            z, alpha = self.codes.unsqueeze(0), self.alpha.unsqueeze(0)
        s = smooth_step(z, self.gamma).unsqueeze(-2)
        return torch.where(self.digits == 1, s, 1 - s).prod(-1), alpha

    def uncertainty(self, read: Float[Tensor, "B G"]) -> Tensor:
        """Entropy of the selectors, and how far they are off the codes that have an expert."""
        choices, _ = self._choices(read)
        total = -torch.special.xlogy(choices, choices.clamp_min(1e-12)).sum((-1, -2))
        if 2**self.m != self.n_experts:
            total = total + (1 / choices.sum(-1).clamp_min(1e-3)).sum(-1)
        mean: Tensor = total.mean()
        return mean
