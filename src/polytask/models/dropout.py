"""Dropout whose masks are cheap to draw, and can be drawn by somebody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn import functional

from polytask.shapes import Tensor

__all__ = ["Dropout", "draw_masks", "masks_from"]

_Source = Callable[[Tensor, float], Tensor]
_SOURCE: ContextVar[_Source | None] = ContextVar("masks", default=None)
_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """Drops units in training, as ``nn.Dropout``; the mask takes 16 random bits a unit.

    On the CPU PyTorch draws a number in double precision for each unit, which for the tables' networks takes longer
    than the forward pass. The probability is rounded to a multiple of 1 / 65536, and units that stay are divided by
    the share that stays, so that nothing is biased.

    Args:
        p: Probability of dropping a unit.

    Attributes:
        strength: Factor on the probability; whoever trains may lower it on the way.

    Example:
        >>> torch.manual_seed(0) is not None
        True
        >>> kept = Dropout(0.25)(torch.ones(40_000))
        >>> sorted(set(kept.tolist())), 0.74 < (kept > 0).double().mean().item() < 0.76
        ([0.0, 1.3333333730697632], True)
    """

    def __init__(self, p: float = 0.5):
        super().__init__(p)
        self.strength = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """The units that stay, enlarged."""
        if not self.training or self.p == 0.0:
            return x
        p = self.p * self.strength
        source = _SOURCE.get()
        if source is not None:
            return x * source(x, p)
        if x.device.type != "cpu" or p == 1.0 or torch.compiler.is_exporting():
            return functional.dropout(x, p, self.training)
        mask = torch.empty(x.shape, dtype=x.dtype)
        draw_masks([mask], p, [None])
        return x * mask


def draw_masks(masks: Sequence[Tensor], p: float, generators: Sequence[torch.Generator | None]) -> None:
    """Fill each mask with zeros and the factor of the units that stay, from its own generator.

    Args:
        masks: Contiguous tensors of any shape.
        p: Probability of a zero, below 1.
        generators: Where the bits come from; PyTorch's own generator for ``None``.
    """
    keep = round((1 - p) * _LEVELS)
    for mask, generator in zip(masks, generators, strict=True):
        flat = mask.view(-1)
        words = torch.empty(-(-flat.numel() // 4), dtype=torch.int64)
        words.random_(-(2**63), None, generator=generator)
        # Signed 16-bit numbers start at -32768, and end one below the limit under which all of them stay.
        torch.le(words.view(torch.int16)[: flat.numel()], keep - _LEVELS // 2 - 1, out=flat)
        flat.mul_(_LEVELS / keep)


@contextmanager
def masks_from(source: _Source) -> Iterator[None]:
    """Inside, each dropout multiplies by what ``source`` gives for its input and its probability."""
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)
