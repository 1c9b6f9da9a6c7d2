"""Cross-stitch units between the tasks' towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._copies import Copies
from polytask.models.sharing._rows import Row, own_and_others
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import ByName, run_stages
from polytask.ranges import Range, Ranges
from polytask.shapes import Inputs, Tensor

__all__ = ["CrossStitch"]


class CrossStitch(Sharing):
    r"""A tower for each task, and after each stage a learned linear mixture of all towers.

    With tower outputs :math:`x^l_s` after stage :math:`l`, what stage :math:`l + 1` of tower :math:`t` reads is

    .. math:: \tilde x^l_t = \sum_s \alpha^l_{ts} x^l_s .

    Args:
        encoder: The encoder; each tower has copies of its stages above the split.
        tasks: Names of the tasks.
        own_weight: Weight of the task's own tower at the start; the other towers get equal parts of the rest.
        ratio: Share of the encoder's stages in a trunk common to all, in [0, 1]; at 0 the towers are whole networks.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the ratio leaves no stage for the towers.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> sharing = CrossStitch(encoder, ["a", "b"])
        >>> sharing(torch.zeros(2, 4))["b"].shape
        torch.Size([2, 8])
        >>> sharing.stitches[0].tolist()[0][0] > 0.8
        True

    Note:
        Every tower runs whatever tasks are asked for. Time and parameters grow with the number of tasks; towers of
        dense layers run as one grouped product. The rows of the last mixture are private.

    References:
        Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016, equation 1.
    """

    ranges: ClassVar[Ranges | None] = {"own_weight": Range(0.5, 0.99), "ratio": Range(0.0, 0.5)}

    def __init__(self, encoder: Encoder, tasks: Sequence[str], own_weight: float = 0.9, ratio: float = 0.0):
        super().__init__(encoder, tasks)
        self.trunk, above = split_stages("Cross-stitch", encoder, ratio)
        if not above:
            raise RecipeError(f"Cross-stitch needs a stage for its towers, and ratio {ratio} leaves none. Lower it.")
        n_tasks = len(self.tasks)
        self.towers = nn.ModuleList(Copies([stage], n_tasks) for stage in above)
        start = own_and_others(n_tasks, own_weight)
        self.stitches = nn.ParameterList(nn.Parameter(start.clone()) for _ in above[:-1])
        self.last = ByName({task: Row(row) for task, row in zip(self.tasks, start.unbind(0), strict=True)})

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """All towers' outputs side by side, before the last mixture: ``[B, T D]``."""
        first, *others = self.towers
        x: Tensor = first.spread(run_stages(self.trunk, inputs, source), source)  # type: ignore[operator]
        for stage, stitch in zip(others, self.stitches, strict=True):
            x = stage(torch.einsum("ts,sb...->tb...", stitch, x))
        return x.transpose(0, 1).flatten(1)

    def private(self, features: Features, tasks: Sequence[str], source: str | None = None) -> dict[str, Tensor]:
        """Each task's own mixture of the towers."""
        towers = features.unflatten(1, (len(self.tasks), self.width))  # type: ignore[union-attr]
        return {task: torch.einsum("s,bsd->bd", self.last[task].weight, towers) for task in tasks}

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """All towers and stitches, and the task's own row of the last mixture."""
        parts = (self.trunk, self.towers, self.stitches, self.last[task])
        return [parameter for part in parts for parameter in part.parameters()]
