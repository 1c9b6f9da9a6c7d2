"""Losses for methods that take their logarithm or their reciprocal."""

from __future__ import annotations

from polytask.balancing.balancer import Balancer
from polytask.shapes import Float, Tensor

__all__ = ["positive"]


def positive(balancer: Balancer, losses: Float[Tensor, " T"], smallest: float) -> Float[Tensor, " T"]:
    """The losses, those below ``smallest`` replaced by it, and a fallback noted."""
    if bool((losses < smallest).any()):
        balancer.note_fallback(f"a loss is below {smallest:g} and was counted as {smallest:g}")
    return losses.clamp_min(smallest)
