"""Improvable gap balancing."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.losses._positive import positive
from polytask.balancing.options import at_least
from polytask.shapes import Float, Tensor

__all__ = ["IGB"]

_SMALLEST = 1e-12


class IGB(Balancer):
    r"""Give more weight to tasks with the larger gap still to close, on top of scale-invariant losses (IGBv1).

    .. math:: \min \sum_i \omega_i \log L_i, \qquad
       \omega_i = T \, \mathrm{softmax}_i(L_i / L_i^{\mathrm{base}}), \qquad w_i = \omega_i / L_i

    where the base is the average loss of the first period, in which all :math:`\omega_i = 1`.

    Args:
        period: Steps in the first period; ``None`` is the first epoch.

    Raises:
        RecipeError: If ``period`` is below one.

    Example:
        >>> balancer = IGB(period=1)
        >>> balancer.bind(["learnt", "stuck"])
        >>> balancer(Signals.of([2.0, 1.0]))
        tensor([0.5000, 1.0000], dtype=torch.float64)
        >>> balancer(Signals.of([1.0, 1.0]))
        tensor([0.7551, 1.2449], dtype=torch.float64)

    Note:
        The improvable gap is the loss relative to its base, i.e. the desired final loss is taken as zero, as in the
        paper's first algorithm. Its second algorithm trains a reinforcement-learning agent for the weights
        and is not offered. A task first seen after the period has its first loss as base. Cost: one backward.

    References:
        Dai, Fei, Lu (2023). Improvable gap balancing for multi-task learning. UAI (section 3.3).
    """

    keeps: frozenset[str] = frozenset({"permutation", "scale"})
    total: Tensor
    count: Tensor
    steps: Tensor

    def __init__(self, period: int | None = None):
        super().__init__()
        self.period = None if period is None else int(at_least("IGB", "period", period, 1))

    def reset(self, n_tasks: int) -> None:
        """Sums for the base, and the number of steps."""
        for name in ("total", "count"):
            self.register_buffer(name, torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The gap's softmax over the losses."""
        at = signals.index
        losses = positive(self, signals.losses, _SMALLEST)
        early = signals.epoch == 0 if self.period is None else int(self.steps) < self.period
        self.steps += 1
        measuring = (self.count[at] == 0) | early
        self.total[at] += torch.where(measuring, losses, torch.zeros_like(losses))
        self.count[at] += measuring.to(torch.float64)
        if early:
            return 1.0 / losses
        gap = losses * self.count[at] / self.total[at]
        return len(at) * torch.softmax(gap, dim=0) / losses
