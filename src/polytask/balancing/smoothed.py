"""A moving average over the weights of any method."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["Smoothed"]


class Smoothed(Balancer):
    r"""Average a method's weights over the steps, for noisy batches.

    .. math:: w_t = \beta\, w_{t-1} + (1 - \beta)\, \hat w_t, \qquad w_0 = \hat w_0

    Args:
        balancer: The method whose weights are averaged.
        beta: Share of the past, from 0 (no smoothing) to below 1.

    Raises:
        RecipeError: If ``beta`` is out of its range, or the method's gradient is no weighted sum.

    Example:
        >>> from polytask.balancing import Equal
        >>> smoothed = Smoothed(Equal(), beta=0.5)
        >>> smoothed.bind(["a", "b"])
        >>> smoothed(Signals.of([1.0, 2.0])).tolist()
        [1.0, 1.0]

    Note:
        Costs T numbers. An absent task keeps its average. Averages lose the laws of the single step: the direction of a
        conflict-free method may conflict for a while.

    References:
        Zhou et al. (2022). On the convergence of stochastic multi-objective gradient manipulation and beyond. NeurIPS
        (CR-MOGM, momentum on the weights).
    """

    def __init__(self, balancer: Balancer, beta: float = 0.9):
        super().__init__()
        if not 0.0 <= beta < 1.0:
            raise RecipeError(f"Smoothed needs beta from 0 to below 1, got {beta}.")
        if type(balancer).combine is not Balancer.combine:
            raise RecipeError(f"{type(balancer).__name__} has a gradient of its own and no weights to average.")
        self.balancer = balancer
        self.beta = beta
        self.needs = balancer.needs
        self.tasks = balancer.tasks

    def bind(self, tasks: Sequence[str]) -> None:
        """Bind the method itself, and forget the averages of other tasks."""
        self.balancer.bind(tasks)
        super().bind(tasks)

    def needs_in(self, signals: Signals) -> frozenset[str]:
        """What the method itself needs."""
        return self.balancer.needs_in(signals)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The moving average; a task seen for the first time starts at its weight."""
        new: Tensor = self.balancer(signals)
        kept = self.keep()
        old = torch.where(kept.known[signals.index], kept.at(signals.index), new)
        kept.store(signals.index, self.beta * old + (1.0 - self.beta) * new)
        return kept.at(signals.index)

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Those of the method itself."""
        return self.balancer.head_weights(signals, weights)

    def after_step(self, signals: Signals) -> None:
        """Passed on to the method."""
        self.balancer.after_step(signals)
