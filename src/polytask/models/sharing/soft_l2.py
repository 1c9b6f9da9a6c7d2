"""Soft sharing: towers held together by their distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._towers import make_towers, stacked_parameters
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import run_stages
from polytask.ranges import Range, Ranges
from polytask.shapes import Inputs, Tensor

__all__ = ["SoftL2"]


class SoftL2(Sharing):
    r"""A whole network for each task, and a penalty on the distance between their parameters.

    With the towers' parameters :math:`\theta_t`, their mean :math:`\bar\theta` and strength :math:`\lambda`, the joint
    loss gets

    .. math:: \frac{\lambda}{2} \sum_t \|\theta_t - \bar\theta\|^2
              = \frac{\lambda}{4T} \sum_{s, t} \|\theta_s - \theta_t\|^2 .

    Args:
        encoder: The encoder; each tower is a copy of its stages above the split.
        tasks: Names of the tasks.
        strength: :math:`\lambda`; 0 trains each task alone, and a large one is hard sharing.
        ratio: Share of the encoder's stages in a trunk common to all, in [0, 1].

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the strength is negative.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> sharing = SoftL2(encoder, ["a", "b"])
        >>> sharing.penalty().item()
        0.0

    Note:
        All towers start from the same values, because networks that start apart compute the same function with
        their units in another order, and their distance says nothing. Tasks meet in the penalty only: a balancer of
        gradients has nothing to weigh at ratio 0.

    References:
        Duong et al., "Low Resource Dependency Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser",
        ACL 2015, section 3; Evgeniou and Pontil, "Regularized Multi-Task Learning", KDD 2004, section 2 (the mean).
    """

    ranges: ClassVar[Ranges | None] = {"strength": Range(1e-4, 1.0, log=True), "ratio": Range(0.0, 0.5)}

    def __init__(self, encoder: Encoder, tasks: Sequence[str], strength: float = 0.01, ratio: float = 0.0):
        super().__init__(encoder, tasks)
        if not strength >= 0:
            raise RecipeError(f"Soft sharing needs a strength of at least 0, got {strength!r}.")
        self.strength = strength
        self.trunk, above = split_stages("Soft sharing", encoder, ratio)
        self.towers = make_towers(self.tasks, above, fresh=False)

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The trunk's output, or the inputs themselves when there is no trunk."""
        features: Features = run_stages(self.trunk, inputs, source)
        return features

    def private(self, features: Features, tasks: Sequence[str], source: str | None = None) -> dict[str, Tensor]:
        """Each task's tower."""
        return {task: run_stages(self.towers[task].children(), features, source) for task in tasks}

    def penalty(self) -> Tensor | None:
        """The squared distances from the mean tower."""
        if not self.strength or len(self.tasks) == 1:
            return None
        parts = [(p - p.mean(0)).square().sum() for p in stacked_parameters(self.towers, self.tasks)]
        return self.strength / 2 * torch.stack(parts).sum() if parts else None

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk and the task's own tower."""
        return [*self.trunk.parameters(), *self.towers[task].parameters()]
