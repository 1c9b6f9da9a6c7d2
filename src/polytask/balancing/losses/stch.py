"""STCH: smooth Tchebycheff scalarisation."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.losses._positive import positive
from polytask.balancing.options import PerTask, at_least, per_task, preferences
from polytask.shapes import Float, Tensor

__all__ = ["STCH"]

_SMALLEST = 1e-20


class STCH(Balancer):
    r"""Minimise a smooth form of the largest weighted loss, with a preference among the tasks.

    .. math:: \min \; \mu \log \sum_i \exp\bigl(\lambda_i (L_i - z_i) / \mu\bigr), \qquad
       w_i = \lambda_i \, \mathrm{softmax}_i\bigl(\lambda (L - z) / \mu\bigr)

    With ``warmup`` the losses are measured on the scale of what they were: for that many epochs plain summation of the
    log losses, in the last of which each loss is averaged to :math:`n_i`; from then on :math:`\log(L_i / n_i)` takes
    the place of :math:`L_i - z_i`, and the whole is multiplied by :math:`T`.

    Args:
        mu: How smooth; towards zero it is :class:`~polytask.balancing.Tchebycheff`.
        preference: :math:`\lambda`, of which only the ratios matter (it is scaled to mean one).
        ideal: :math:`z`, the value each loss would reach alone; zero by default.
        warmup: Epochs of warm-up, or ``None`` for the equation as it stands.

    Raises:
        RecipeError: If an option is out of its range or does not fit the tasks.

    Example:
        >>> balancer = STCH(mu=1.0)
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0]))
        tensor([0.5000, 0.5000], dtype=torch.float64)

    Note:
        The warm-up is that of the authors' multi-task experiments and not in the paper's equations; without it tasks
        on a small scale are hardly trained. Cost: one backward.

    References:
        Lin et al. (2024). Smooth Tchebycheff scalarization for multi-objective optimization. ICML (equation 8).
    """

    keeps: frozenset[str] = frozenset({"permutation", "single"})
    scale: Tensor
    origin: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, mu: float = 1.0, preference: PerTask = None, ideal: PerTask = None, warmup: int | None = None):
        super().__init__()
        self.mu = at_least("STCH", "mu", mu, 0.0, above=True)
        self.preference = preference
        self.ideal = ideal
        self.warmup = None if warmup is None else int(at_least("STCH", "warmup", warmup, 1))
        if warmup is not None:  # a task alone then sees its log loss
            self.keeps = self.keeps - {"single"}

    def reset(self, n_tasks: int) -> None:
        """Look preference and ideal point up; sums for the scale after the warm-up."""
        self.register_buffer("scale", preferences("STCH", self.preference, self.tasks))
        self.register_buffer("origin", per_task("STCH", "ideal", self.ideal, self.tasks, default=0.0))
        for name in ("total", "count"):
            self.register_buffer(name, torch.zeros(n_tasks, dtype=torch.float64))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """A softmax of the weighted losses times the preference."""
        at = signals.index
        scale = self.scale[at]
        if self.warmup is None:
            return scale * torch.softmax(scale * (signals.losses - self.origin[at]) / self.mu, dim=0)
        losses = positive(self, signals.losses, _SMALLEST)
        fresh = self.count[at] == 0
        if signals.epoch < self.warmup or bool(fresh.any()):
            # The last epoch of the warm-up measures; a task first seen later is measured by its first loss.
            measuring = (
                fresh if signals.epoch >= self.warmup else torch.full_like(fresh, signals.epoch == self.warmup - 1)
            )
            self.total[at] += torch.where(measuring, losses, torch.zeros_like(losses))
            self.count[at] += measuring.to(torch.float64)
        if signals.epoch < self.warmup:
            return 1.0 / losses
        relative = (losses * self.count[at] / self.total[at]).log()
        return len(losses) * scale * torch.softmax(scale * relative / self.mu, dim=0) / losses
