"""Normalisation layers with statistics and scales of their own for some sources."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from polytask.errors import RecipeError
from polytask.models.stages import ByName
from polytask.shapes import Tensor

__all__ = ["SourceNorm", "give_own_norms"]

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class SourceNorm(nn.Module):
    """A normalisation layer of which some sources have a copy of their own; the others share the first.

    Args:
        norm: The layer.
        sources: The sources with a copy.

    Attributes:
        source: Of the rows that come next; the network sets it.

    Example:
        >>> import torch
        >>> norm = SourceNorm(nn.BatchNorm1d(1), ["b"])
        >>> for norm.source, shift in (("a", 0.0), ("b", 100.0)):
        ...     out = norm(shift + torch.tensor([[-1.0], [1.0]]))
        >>> norm.common.running_mean.item(), norm.own["b"].running_mean.item()
        (0.0, 10.0)

    References:
        Chang et al., Domain-Specific Batch Normalization for Unsupervised Domain Adaptation, CVPR 2019; Bilen and
        Vedaldi, Universal Representations: The Missing Link between Faces, Text, Planktons, and Cat Breeds, 2017.
    """

    def __init__(self, norm: nn.Module, sources: Sequence[str]):
        super().__init__()
        self.common = norm
        self.own = ByName({source: copy.deepcopy(norm) for source in sources})
        self.source: str | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the layer of the source."""
        norm = self.own[self.source] if self.source is not None and self.source in self.own else self.common
        out: Tensor = norm(x)
        return out


def give_own_norms(module: nn.Module, sources: Sequence[str]) -> None:
    """Put a :class:`SourceNorm` in the place of every normalisation layer inside.

    Raises:
        RecipeError: If there is none.
    """
    made: dict[int, SourceNorm] = {}
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _NORMS):
                # A layer that is used in two places stays one layer.
                setattr(parent, name, made.setdefault(id(child), SourceNorm(child, sources)))
    if not made:
        raise RecipeError(
            f"own_norms for {', '.join(sources)}: the network has no normalisation layer below its heads. Take the "
            "option out, or choose an encoder with such layers (tabular, resnet18)."
        )
