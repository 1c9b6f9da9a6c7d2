"""Losses whose logarithm is taken."""

from __future__ import annotations

from polytask.balancing.balancer import Balancer
from polytask.shapes import Float, Tensor

__all__ = ["positive"]


def positive(balancer: Balancer, losses: Float[Tensor, " T"], smallest: float) -> Float[Tensor, " T"]:
    """The losses, those below ``smallest`` replaced by it and noted: their logarithm would be huge or undefined."""
    if bool((losses < smallest).any()):
        balancer.note_fallback(f"a loss is below {smallest:g}, where its logarithm has no use: {smallest:g} was taken")
    return losses.clamp_min(smallest)
