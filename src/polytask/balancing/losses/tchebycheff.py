"""Tchebycheff scalarisation: only the worst task counts."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, per_task, preferences
from polytask.shapes import Float, Tensor

__all__ = ["Tchebycheff"]


class Tchebycheff(Balancer):
    r"""Minimise the largest weighted loss; every point of the Pareto front is the answer for some preference.

    .. math:: \min \max_i \; \lambda_i (L_i - z_i)

    Args:
        preference: :math:`\lambda`, of which only the ratios matter (it is scaled to mean one).
        ideal: :math:`z`, the value each loss would reach alone; zero by default.

    Raises:
        RecipeError: When bound to tasks that an option does not fit.

    Example:
        >>> balancer = Tchebycheff(preference=[3.0, 1.0])
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([0.5, 1.0]))
        tensor([1.5000, 0.0000], dtype=torch.float64)

    Note:
        Tasks that tie share the weight evenly. The weights jump from task to task, which makes training slow and
        uneven; :class:`~polytask.balancing.STCH` is the smooth form. Cost: one backward.

    References:
        Miettinen (1998). Nonlinear multiobjective optimization. Springer (section 3.4).
        Bowman (1976). On the relationship of the Tchebycheff norm and the efficient frontier. Springer.
    """

    keeps: frozenset[str] = frozenset({"permutation", "single"})
    scale: Tensor
    origin: Tensor

    def __init__(self, preference: PerTask = None, ideal: PerTask = None):
        super().__init__()
        self.preference = preference
        self.ideal = ideal

    def reset(self, n_tasks: int) -> None:
        """Look preference and ideal point up."""
        self.register_buffer("scale", preferences("Tchebycheff", self.preference, self.tasks))
        self.register_buffer("origin", per_task("Tchebycheff", "ideal", self.ideal, self.tasks, default=0.0))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The preference of the worst task at its place, zero elsewhere."""
        scale = self.scale[signals.index]
        distance = scale * (signals.losses - self.origin[signals.index])
        worst = (distance == distance.max()).to(torch.float64)
        return scale * worst / worst.sum()
