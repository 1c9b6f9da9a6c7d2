"""MoDo: multi-objective gradient with double sampling."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least
from polytask.balancing.solvers.gramian import tensor_of
from polytask.balancing.solvers.simplex import project_on_simplex, shares
from polytask.shapes import Float, Tensor

__all__ = ["MoDo"]


class MoDo(Balancer):
    r"""Move the weights one small step towards MGDA's at a time, from two batches so that the step is unbiased.

    .. math:: \lambda \leftarrow \Pi_\Delta \bigl(\lambda - \gamma (J_1 J_2^\top + \rho I) \lambda\bigr), \qquad w =
       \lambda

    Args:
        gamma: Step size.
        rho: Pull towards equal weights.
        independent: Use two independent batches (``cross_gramian``), as the paper does; without, the one batch of the
            step stands for both, which is biased.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = MoDo(gamma=0.1, rho=0.0)
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[1.0, 0.0], [0.0, 3.0]]))
        tensor([0.5500, 0.4500], dtype=torch.float64)

    Note:
        The paper takes the direction from both batches' mean or from a third batch; here it is the step's own batch.
        The step size is in units of squared gradients and has to be chosen for them. Cost: one gradient a task, twice
        that if ``independent``.

    References:
        Chen, Fernando, Ying, Chen (2023). Three-way trade-off in multi-objective learning: Optimization,
        generalization and conflict-avoidance. NeurIPS (equation 8, algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    sums_to_one: bool = True
    share: Tensor

    def __init__(self, gamma: float = 0.1, rho: float = 0.1, independent: bool = False):
        super().__init__()
        self.gamma = at_least("MoDo", "gamma", gamma, 0.0, above=True)
        self.rho = at_least("MoDo", "rho", rho, 0.0)
        self.independent = independent
        if independent:
            self.needs = frozenset({"losses", "rows", "cross_gramian"})

    def reset(self, n_tasks: int) -> None:
        """Equal weights."""
        self.register_buffer("share", torch.full((n_tasks,), 1.0 / n_tasks, dtype=torch.float64))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """One projected step; absent tasks keep their share and the present ones divide the rest."""
        estimate = signals.require("cross_gramian" if self.independent else "gramian", "MoDo")
        held = self.share[signals.index]
        start = tensor_of(shares(held.cpu().numpy()))
        weights = self.iterate(signals, start, estimate.to(start) @ start)
        self.share[signals.index] = weights.to(self.share) * held.sum()
        return weights

    def iterate(
        self, signals: Signals, weights: Float[Tensor, " T"], product: Float[Tensor, " T"]
    ) -> Float[Tensor, " T"]:
        """The same step from the product alone."""
        moved = weights - self.gamma * (product.to(weights) + self.rho * weights)
        return tensor_of(project_on_simplex(moved.cpu().numpy()))
