"""Soft sharing: towers held together by the tensor trace norm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from polytask.errors import RecipeError, UnknownNameError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._towers import make_towers, stacked_parameters
from polytask.models.sharing.sharing import Features, Sharing, split_stages
from polytask.models.stages import run_stages
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["SoftTrace"]


class SoftTrace(Sharing):
    r"""A whole network for each task, and a penalty that draws the networks' weights to a low rank.

    The weights of a layer of all T towers form a tensor :math:`W` whose last axis is the task. With :math:`\|\cdot\|_*`
    the sum of singular values, :math:`W_{(i)}` the matrix with axis :math:`i` in its rows, :math:`W_{[i]}` the matrix
    with axes :math:`1..i` in its rows, and :math:`N` axes, the joint loss gets :math:`\lambda` times, over all layers,

    - ``last_axis``: :math:`\|W_{(N)}\|_*`, so that towers are combinations of few;
    - ``tucker``: :math:`\frac1N \sum_{i=1}^N \|W_{(i)}\|_*`;
    - ``tensor_train``: :math:`\frac1{N-1} \sum_{i=1}^{N-1} \|W_{[i]}\|_*`.

    Args:
        encoder: The encoder; each tower is a copy of its stages above the split.
        tasks: Names of the tasks.
        strength: :math:`\lambda`; 0 trains each task alone.
        norm: ``last_axis``, ``tucker`` or ``tensor_train``.
        ratio: Share of the encoder's stages in a trunk common to all, in [0, 1].

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the strength is negative, or the norm is not known.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> SoftTrace(encoder, ["a", "b"], strength=0.1).penalty().item() > 0
        True

    Note:
        Each step takes a singular value decomposition a layer; ``last_axis`` is the cheapest, as one side is T.
        Biases are left out, as their axes mean nothing. The gradient is a subgradient where singular values vanish.

    References:
        Yang and Hospedales, "Trace Norm Regularised Deep Multi-Task Learning", ICLR 2017 workshop, section 2.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        strength: float = 0.001,
        norm: str = "last_axis",
        ratio: float = 0.0,
    ):
        super().__init__(encoder, tasks)
        if not strength >= 0:
            raise RecipeError(f"Soft sharing needs a strength of at least 0, got {strength!r}.")
        if norm not in _NORMS:
            raise UnknownNameError("tensor trace norm", norm, _NORMS)
        self.strength, self.norm = strength, norm
        self.trunk, above = split_stages("Soft sharing", encoder, ratio)
        self.towers = make_towers(self.tasks, above)

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The trunk's output, or the inputs themselves when there is no trunk."""
        features: Features = run_stages(self.trunk, inputs, source)
        return features

    def private(self, features: Features, tasks: Sequence[str], source: str | None = None) -> dict[str, Tensor]:
        """Each task's tower."""
        return {task: run_stages(self.towers[task].children(), features, source) for task in tasks}

    def penalty(self) -> Tensor | None:
        """The tensor trace norms of all layers."""
        if not self.strength or len(self.tasks) == 1:
            return None
        layers = [w for w in stacked_parameters(self.towers, self.tasks) if w.ndim > 2]
        if not layers:
            return None
        return self.strength * torch.stack([_NORMS[self.norm](w.movedim(0, -1)) for w in layers]).sum()

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk and the task's own tower."""
        return [*self.trunk.parameters(), *self.towers[task].parameters()]


def _nuclear(matrix: Float[Tensor, "m n"]) -> Tensor:
    values: Tensor = torch.linalg.svdvals(matrix)
    return values.sum()


def _last_axis(weights: Float[Tensor, "... T"]) -> Tensor:
    return _nuclear(weights.flatten(0, -2))


def _tucker(weights: Float[Tensor, "... T"]) -> Tensor:
    n = weights.ndim
    return torch.stack([_nuclear(weights.movedim(i, 0).flatten(1)) for i in range(n)]).mean()


def _tensor_train(weights: Float[Tensor, "... T"]) -> Tensor:
    n = weights.ndim
    return torch.stack([_nuclear(weights.flatten(i, -1).flatten(0, i - 1)) for i in range(1, n)]).mean()


_NORMS = {"last_axis": _last_axis, "tucker": _tucker, "tensor_train": _tensor_train}
