"""Customised gate control: experts of all tasks, and experts of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._experts import ExpertPlan, GateReader
from polytask.models.sharing._extraction import Extraction
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import run_stages
from polytask.ranges import Range, Ranges
from polytask.shapes import Inputs

__all__ = ["CGC"]


class CGC(Sharing):
    r"""Experts common to all tasks beside experts of each task's own, mixed by the task's gate.

    With shared experts :math:`f_e` and the task's own :math:`f^t_e`,

    .. math:: h_t(x) = g_t(x)^\top [f^t_1(x), \dots, f^t_m(x), f_1(x), \dots, f_n(x)], \qquad
              g_t(x) = \mathrm{softmax}(W_t x + b_t).

    Args:
        encoder: The encoder; an expert is a copy of its stages above the split, followed by dense layers.
        tasks: Names of the tasks.
        n_shared: Number of shared experts; at 0 the tasks have nothing in common above the trunk.
        n_private: Number of experts of each task's own; at 0 this is MMoE.
        ratio: Share of the encoder's stages in the trunk, in [0, 1]; at 0 the gates read the raw inputs.
        expert_widths: Widths of the dense layers of each expert.
        dropout: Probability of dropping a unit after each dense layer.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If a task has no expert at all, or an expert has no layer.

    Example:
        >>> import torch
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8,))
        >>> sharing = CGC(encoder, ["a", "b"], n_shared=1, n_private=1, expert_widths=(5,))
        >>> sharing(torch.zeros(2, 4))["b"].shape
        torch.Size([2, 5])
        >>> list(sharing.gate_use()["a"])
        ['own 1', 'shared 1']

    Note:
        A task's own experts run only when the task is asked for. Less prone than MMoE to let one task degrade
        another, at the price of parameters that grow with the tasks.

    References:
        Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
        Recommendations", RecSys 2020, section 4.1, equations 1 to 4.
    """

    ranges: ClassVar[Ranges | None] = {"n_shared": Range(1, 4, whole=True), "n_private": Range(1, 2, whole=True)}

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        n_shared: int = 2,
        n_private: int = 2,
        ratio: float = 1.0,
        expert_widths: Sequence[int] = (128,),
        dropout: float = 0.0,
    ):
        super().__init__(encoder, tasks)
        if min(n_shared, n_private) < 0 or n_shared + n_private < 1:
            raise RecipeError(f"CGC needs an expert for each task, got {n_shared} shared and {n_private} private ones.")
        self.trunk, above = split_stages("CGC", encoder, ratio)
        self.reader = GateReader("CGC", encoder, self.trunk)
        plan = ExpertPlan("CGC", encoder, above, expert_widths, dropout)
        self.width = plan.width
        self.level = Extraction(self.tasks, plan, n_shared, n_private, self.reader.width, feeds_next=False)

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """Each asked task's mixture."""
        below = run_stages(self.trunk, inputs, source)
        extracted = self.level.first(below, self.reader(inputs, below, source), tasks, source)
        self._note_gates(extracted.weights)
        return extracted.mixed

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """Trunk, shared experts, the task's own experts and gate."""
        below = [*self.trunk.parameters(), *self.reader.parameters()]
        return below + self.level.reached_by(task, levels_above=0)

    def expert_names(self, task: str) -> list[str]:
        """The task's own experts, then the shared ones."""
        return self.level.expert_names()
