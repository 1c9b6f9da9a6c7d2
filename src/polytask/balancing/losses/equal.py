"""Equal weights: plain summation."""

from __future__ import annotations

from typing import ClassVar

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.ranges import Ranges
from polytask.shapes import Float, Tensor

__all__ = ["Equal"]


class Equal(Balancer):
    r"""Add the losses up, each with weight one; the baseline that every other method has to beat.

    .. math:: w_i = 1

    Example:
        >>> Equal()(Signals.of([0.5, 2.0]))
        tensor([1., 1.], dtype=torch.float64)

    Note:
        Tuned plain summation is a strong baseline (Xin et al. 2022; Kurin et al. 2022). Cost: one backward.

    References:
        Xin et al. (2022). Do current multi-task optimization methods in deep learning even help? NeurIPS.
        Kurin et al. (2022). In defense of the unitary scalarization for deep multi-task learning. NeurIPS.
    """

    ranges: ClassVar[Ranges | None] = {}

    keeps: frozenset[str] = frozenset({"permutation", "single"})

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """One for each task."""
        return torch.ones_like(signals.losses)
