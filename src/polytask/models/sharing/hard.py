"""Hard sharing: one trunk, a tower per task above a chosen split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._towers import make_towers
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import run_stages
from polytask.ranges import Range, Ranges
from polytask.shapes import Inputs, Tensor

__all__ = ["Hard"]


class Hard(Sharing):
    r"""One trunk for all tasks up to a split point, and a tower for each task above it.

    With stages :math:`f_1, \dots, f_n` and ratio :math:`r`, the first :math:`k = \mathrm{round}(r n)` are shared:
    :math:`h_t = f_n^t \circ \dots \circ f_{k+1}^t \circ f_k \circ \dots \circ f_1(x)`.

    Args:
        encoder: The encoder to split; every task's tower is a fresh copy of the stages above the split.
        tasks: Names of the tasks.
        ratio: The sharing ratio in [0, 1]: 0 shares nothing, 1 shares all but the heads.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the ratio is not in [0, 1].

    Example:
        >>> import torch
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> sharing = Hard(encoder, ["a", "b"], ratio=0.5)
        >>> sharing.count_parameters()
        {'shared': 40, 'private': 144}
        >>> sharing(torch.zeros(3, 4))["b"].shape
        torch.Size([3, 8])

    Note:
        The cheapest way of sharing, and the first to try: one pass through the trunk serves all tasks.

    References:
        Caruana, "Multitask Learning", Machine Learning 28, 1997.
    """

    ranges: ClassVar[Ranges | None] = {"ratio": Range(0.0, 1.0)}

    def __init__(self, encoder: Encoder, tasks: Sequence[str], ratio: float = 1.0):
        super().__init__(encoder, tasks)
        self.ratio = ratio
        self.trunk, above = split_stages("Hard sharing", encoder, ratio)
        self.split = len(self.trunk)
        self.towers = make_towers(self.tasks, above)

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The trunk's output, or the inputs themselves when nothing is shared."""
        features: Features = run_stages(self.trunk, inputs, source)
        return features

    def private(self, features: Features, tasks: Sequence[str], source: str | None = None) -> dict[str, Tensor]:
        """Each task's tower on the trunk's output."""
        return {task: run_stages(self.towers[task].children(), features, source) for task in tasks}

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk and the task's own tower."""
        return [*self.trunk.parameters(), *self.towers[task].parameters()]
