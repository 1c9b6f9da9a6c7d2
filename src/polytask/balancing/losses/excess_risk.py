"""Excess risk from losses: more weight to the tasks that are furthest from what they can reach."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, at_least, per_task, within
from polytask.shapes import Float, Tensor

__all__ = ["ExcessRisk"]


class ExcessRisk(Balancer):
    r"""Move weight to the tasks with the largest excess risk, measured from the losses alone.

    .. math:: \hat E_i = \frac{\bar L_i - b_i}{\bar L_i^{(0)} - b_i}, \qquad
       \alpha_i \propto \alpha_i \, e^{\eta \hat E_i}, \qquad w_i = T \alpha_i

    with :math:`\bar L` a running average and :math:`b` the loss that cannot be removed (label noise).

    Args:
        rate: :math:`\eta`.
        floor: :math:`b`; zero by default. Noise is what the method is about: give it where you know it.
        momentum: Of the running average.

    Raises:
        RecipeError: If an option is out of its range or does not fit the tasks.

    Example:
        >>> balancer = ExcessRisk(rate=1.0, momentum=0.0)
        >>> balancer.bind(["learnt", "stuck"])
        >>> balancer(Signals.of([1.0, 1.0]))
        tensor([1., 1.], dtype=torch.float64)
        >>> balancer(Signals.of([0.1, 1.0]))
        tensor([0.5781, 1.4219], dtype=torch.float64)

    Note:
        The weights follow equation 9 of the paper; the paper estimates the excess risk from gradients and a diagonal
        curvature (:class:`~polytask.balancing.ExcessMTL`), which needs no :math:`b`. Weights concentrate with time, as
        they do in the paper: keep the rate small. Absent tasks keep their share of the weight. Cost: one backward.

    References:
        He et al. (2024). Robust multi-task learning with excess risks. ICML (section 3).
    """

    keeps: frozenset[str] = frozenset({"permutation", "single"})
    logits: Tensor
    average: Tensor
    first: Tensor
    least: Tensor

    def __init__(self, rate: float = 0.01, floor: PerTask = None, momentum: float = 0.9):
        super().__init__()
        self.rate = at_least("ExcessRisk", "rate", rate, 0.0, above=True)
        self.momentum = within("ExcessRisk", "momentum", momentum, 0.0, 1.0)
        self.floor = floor

    def reset(self, n_tasks: int) -> None:
        """Equal weights; no average known (NaN)."""
        self.register_buffer("logits", torch.zeros(n_tasks, dtype=torch.float64))
        for name in ("average", "first"):
            self.register_buffer(name, torch.full((n_tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("least", per_task("ExcessRisk", "floor", self.floor, self.tasks, default=0.0))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """One exponentiated-gradient step on the weights."""
        at = signals.index
        gap = (signals.losses - self.least[at]).clamp_min(0.0)
        known = ~self.average[at].isnan()
        self.average[at] = torch.where(known, torch.lerp(gap, self.average[at], self.momentum), gap)
        self.first[at] = torch.where(known, self.first[at], gap)
        excess = torch.where(self.first[at] > 0.0, self.average[at] / self.first[at], torch.zeros_like(gap))
        moved = self.logits[at] + self.rate * excess
        # together the present tasks keep what they had, so that an absent one loses nothing
        self.logits[at] = moved + (self.logits[at].logsumexp(0) - moved.logsumexp(0))
        return len(at) * torch.softmax(moved, dim=0)
