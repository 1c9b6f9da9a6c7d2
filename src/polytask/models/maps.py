"""Maps of features: finer ones folded into the channels of coarser ones, and a map as elements of a row."""

from __future__ import annotations

import torch
from torch.nn import functional

from polytask.shapes import Float, Tensor

__all__ = ["as_elements", "folded", "unfolded"]


def folded(x: Float[Tensor, "B C H W"], times: int = 1) -> Float[Tensor, "B C2 H2 W2"]:
    """The same numbers on a map of half the height and width, ``times`` times; nothing is lost.

    Example:
        >>> x = torch.randn(2, 3, 8, 8)
        >>> folded(x).shape, torch.equal(unfolded(folded(x)), x)
        (torch.Size([2, 12, 4, 4]), True)
    """
    for _ in range(times):  # not once by 2 ** times, which orders channels otherwise
        x = functional.pixel_unshuffle(x, 2)
    return x


def unfolded(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
    """What :func:`folded` was given."""
    return functional.pixel_shuffle(x, 2)


def as_elements(pixels: Float[Tensor, "B D H W"], whole: Float[Tensor, "B D"] | None = None) -> Float[Tensor, "BL D"]:
    """Each pixel's vector as an element of its row, and after them one that stands for the whole row.

    Args:
        pixels: The map.
        whole: The vector of the whole row; the mean over the pixels if ``None``.

    Shape:
        ``[B, D, H, W]`` -> ``[B * (H W + 1), D]``
    """
    if whole is None:
        whole = pixels.mean((2, 3))
    flat = pixels.flatten(2).transpose(1, 2)
    return torch.cat([flat, whole.unsqueeze(1)], 1).flatten(0, 1)
