"""SDMGrad: direction-oriented stochastic multi-objective descent."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, at_least, preferences, within
from polytask.balancing.solvers.gramian import Floats, gramian_of, tensor_of
from polytask.balancing.solvers.simplex import project_on_simplex, shares
from polytask.shapes import Float, Tensor

__all__ = ["SDMGrad"]

_ROUNDING = 1e-12


class SDMGrad(Balancer):
    r"""Follow MGDA's direction pulled towards a preferred one, with a few cheap steps instead of a solve.

    .. math:: \min_{\omega \in \Delta} \tfrac12 \lVert J^\top (\omega + \lambda r) \rVert^2, \qquad
       w = \frac{\omega + \lambda r}{1 + \lambda}

    by ``iterations`` projected gradient steps with momentum that start at the :math:`\omega` of the step before.

    Args:
        pull: :math:`\lambda`; 0 is MGDA's direction, towards infinity the preferred one.
        preference: :math:`r`, of which only the ratios matter (it is scaled to sum one).
        lr: Step size, for gradients scaled to mean norm one.
        momentum: Momentum within one solve.
        iterations: Steps of one solve.
        independent: Estimate :math:`J J^\top` from two independent batches (``cross_gramian``), which the theory asks
            for; without, from the one batch of the step.

    Raises:
        RecipeError: If an option is out of its range or does not fit the tasks.

    Example:
        >>> balancer = SDMGrad(pull=1.0)
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[1.0, 0.0], [0.0, 1.0]]))
        tensor([0.5000, 0.5000], dtype=torch.float64)

    Note:
        The paper's algorithm draws three batches a step: two for :math:`\omega` and one for the direction, which here
        is the first again. The scaling and the momentum are those of the authors' code and not in the paper's
        equations. With one batch the estimate is biased, as MGDA's is. Cost: one gradient a task, twice that if
        ``independent``.

    References:
        Xiao, Ban, Ji (2023). Direction-oriented multi-objective learning: Simple and provable stochastic algorithms.
        NeurIPS (equation 5, algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    share: Tensor
    chosen: Tensor

    def __init__(
        self,
        pull: float = 0.3,
        preference: PerTask = None,
        lr: float = 10.0,
        momentum: float = 0.5,
        iterations: int = 20,
        independent: bool = False,
    ):
        super().__init__()
        self.pull = at_least("SDMGrad", "pull", pull, 0.0)
        self.preference = preference
        self.lr = at_least("SDMGrad", "lr", lr, 0.0, above=True)
        self.momentum = within("SDMGrad", "momentum", momentum, 0.0, 1.0)
        self.iterations = int(at_least("SDMGrad", "iterations", iterations, 1))
        self.independent = independent
        if independent:
            self.needs = frozenset({"losses", "rows", "cross_gramian"})

    def reset(self, n_tasks: int) -> None:
        """Equal shares; the preference."""
        self.register_buffer("share", torch.full((n_tasks,), 1.0 / n_tasks, dtype=torch.float64))
        self.register_buffer("chosen", preferences("SDMGrad", self.preference, self.tasks))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """A few projected steps, then the mixture with the preference."""
        estimate = _estimate(signals, self.independent)
        order = _order(estimate)
        estimate, at = estimate[np.ix_(order, order)], signals.index[torch.from_numpy(order)]
        share = shares(self.share[at].cpu().numpy())
        chosen = shares(self.chosen[at].cpu().numpy())
        unit = float(np.sqrt(np.maximum(estimate.diagonal(), 0.0)).mean()) or 1.0
        scaled = estimate / unit / unit
        velocity = np.zeros_like(share)
        for _ in range(self.iterations):
            velocity = self.momentum * velocity + _product(scaled, share + self.pull * chosen)
            share = project_on_simplex(share - self.lr * velocity)
        self.share[at] = tensor_of(share).to(self.share) * self.share[at].sum()
        weights = np.empty_like(share)
        weights[order] = (share + self.pull * chosen) / (1.0 + self.pull)
        return tensor_of(weights)


def _order(estimate: Floats) -> NDArray[np.intp]:
    """The tasks in an order that their numbers give and their names do not.

    Steps this long carry the rounding of sums, which is that of their order, to other vertices.
    """
    return np.lexsort((*np.sort(estimate, axis=1).T, estimate.diagonal()))


def _product(scaled: Floats, weights: Floats) -> Floats:
    """The matrix times the weights, exactly zero where terms cancel up to rounding, which long steps would blow up."""
    product: Floats = scaled @ weights
    product[np.abs(product) <= _ROUNDING * (np.abs(scaled) @ np.abs(weights))] = 0.0
    return product


def _estimate(signals: Signals, independent: bool) -> Floats:
    if not independent:
        return gramian_of(signals)
    return signals.require("cross_gramian", "SDMGrad with independent=True").cpu().numpy()
