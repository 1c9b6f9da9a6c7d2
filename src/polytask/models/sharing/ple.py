"""Progressive layered extraction: several levels of shared and own experts."""

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
from polytask.shapes import Inputs

__all__ = ["PLE"]


class PLE(Sharing):
    r"""Levels of shared and own experts, so that what tasks have in common is separated from what they do not.

    At level :math:`l` task :math:`t` mixes the shared experts, which read :math:`x^l_s`, and its own, which read
    :math:`x^l_t`; a shared gate mixes the experts of all tasks for the shared experts of the next level:

    .. math::

        x^{l+1}_t &= \mathrm{softmax}(W^l_t x^l_t)^\top [F^l_t(x^l_t), F^l_s(x^l_s)], \\
        x^{l+1}_s &= \mathrm{softmax}(W^l_s x^l_s)^\top [F^l_1(x^l_1), \dots, F^l_T(x^l_T), F^l_s(x^l_s)].

    The last level has no shared gate.

    Args:
        encoder: The encoder; an expert of the first level is a copy of its stages above the split, followed by dense
            layers; at higher levels an expert is the dense layers.
        tasks: Names of the tasks.
        n_levels: Number of levels; one level is CGC.
        n_shared: Number of shared experts a level; at 0 the tasks have nothing in common above the trunk.
        n_private: Number of experts of each task's own a level.
        ratio: Share of the encoder's stages in the trunk, in [0, 1]; at 0 the lowest gates read the raw inputs.
        expert_widths: Widths of the dense layers of each expert.
        dropout: Probability of dropping a unit after each dense layer.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If there is no level, a task has no expert at all, or an expert has no layer.

    Example:
        >>> import torch
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8,))
        >>> sharing = PLE(encoder, ["a", "b"], n_shared=1, n_private=1, expert_widths=(5,))
        >>> sharing(torch.zeros(2, 4))["b"].shape
        torch.Size([2, 5])

    Note:
        Below the last level the experts of every task must run even if one task is asked for, because the shared
        gate mixes them. Gate use is that of the last level.

    References:
        Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
        Recommendations", RecSys 2020, section 4.2, equations 5 to 7.
    """

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        n_levels: int = 2,
        n_shared: int = 2,
        n_private: int = 2,
        ratio: float = 1.0,
        expert_widths: Sequence[int] = (128,),
        dropout: float = 0.0,
    ):
        super().__init__(encoder, tasks)
        if n_levels < 1:
            raise RecipeError(f"PLE needs at least one level, got {n_levels}.")
        if min(n_shared, n_private) < 0 or n_shared + n_private < 1:
            raise RecipeError(f"PLE needs an expert for each task, got {n_shared} shared and {n_private} private ones.")
        self.trunk, above = split_stages("PLE", encoder, ratio)
        self.reader = GateReader("PLE", encoder, self.trunk)
        plan, read = ExpertPlan("PLE", encoder, above, expert_widths, dropout), self.reader.width
        levels: list[Extraction] = []
        for level in range(n_levels):
            if level:
                read = plan.width
                plan = ExpertPlan("PLE", encoder, [], expert_widths, dropout, width_before=read)
            levels.append(Extraction(self.tasks, plan, n_shared, n_private, read, feeds_next=level + 1 < n_levels))
        self.levels = nn.ModuleList(levels)
        self.width = plan.width

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """Each asked task's mixture at the last level."""
        below = run_stages(self.trunk, inputs, source)
        first, *others = self._levels()
        # With shared experts, all tasks run below the last level; otherwise only the asked ones.
        extracted = first.first(below, self.reader(inputs, below, source), first.needed(tasks), source)
        for level in others:
            extracted = level.above(extracted, level.needed(tasks))
        self._note_gates({task: extracted.weights[task] for task in tasks})
        return {task: extracted.mixed[task] for task in tasks}

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """Trunk, shared experts, and of the tasks' experts those that feed the task."""
        reached = [*self.trunk.parameters(), *self.reader.parameters()]
        levels = self._levels()
        for index, level in enumerate(levels):
            reached += level.reached_by(task, levels_above=len(levels) - 1 - index)
        return reached

    def expert_names(self, task: str) -> list[str]:
        """The task's own experts, then the shared ones."""
        return self._levels()[-1].expert_names()

    def _levels(self) -> list[Extraction]:
        return list(self.levels)  # type: ignore[arg-type]
