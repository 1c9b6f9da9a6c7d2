"""GradNorm: gradient normalisation for adaptive loss balancing."""

from __future__ import annotations

import torch

from polytask.balancing.adam import PerTaskAdam
from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least
from polytask.balancing.solvers.gramian import gramian_of
from polytask.shapes import Float, Tensor

__all__ = ["GradNorm"]

_LEAST = 1e-4


class GradNorm(Balancer):
    r"""Learn weights that give every task a gradient of common size, larger where training lags behind.

    .. math:: \min_w \sum_i \Bigl\lvert w_i \lVert g_i \rVert - \bar G \, \rho_i^{\alpha} \Bigr\rvert, \qquad
       \rho_i = \frac{L_i / L_i^{(0)}}{\mathrm{mean}_j L_j / L_j^{(0)}}, \qquad \bar G = \mathrm{mean}_j \, w_j \lVert
       g_j \rVert

    one Adam step on :math:`w` at a time, the target held constant, then :math:`w` scaled to sum :math:`T`.

    Args:
        alpha: How strongly a task that lags is pulled.
        lr: Learning rate of the weights.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = GradNorm(lr=0.1)
        >>> balancer.bind(["long", "short"])
        >>> signals = Signals.of([1.0, 1.0], gramian=[[9.0, 0.0], [0.0, 1.0]])
        >>> balancer(signals)
        tensor([1., 1.], dtype=torch.float64)
        >>> balancer(signals)
        tensor([0.9000, 1.1000], dtype=torch.float64)

    Note:
        The paper takes the gradients of the last shared layer; here it is the whole shared part, and in the mode
        ``features`` the shared features. Weights are kept at 1e-4 or more before they are scaled; the paper says
        nothing on weights that reach zero. An absent task keeps its weight, and the others keep their sum. The first
        loss is that of the first batch. Heads see the weighted losses, as in the paper. Cost: one gradient a task.

    References:
        Chen et al. (2018). GradNorm: Gradient normalization for adaptive loss balancing in deep multitask networks.
        ICML (equations 1 and 2, algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    factor: Tensor
    first: Tensor

    def __init__(self, alpha: float = 1.5, lr: float = 0.025):
        super().__init__()
        self.alpha = at_least("GradNorm", "alpha", alpha, 0.0)
        self.lr = at_least("GradNorm", "lr", lr, 0.0, above=True)

    def reset(self, n_tasks: int) -> None:
        """Weights one; first losses not known (NaN); the optimiser's moments."""
        self.register_buffer("factor", torch.ones(n_tasks, dtype=torch.float64))
        self.register_buffer("first", torch.full((n_tasks,), torch.nan, dtype=torch.float64))
        self.adam = PerTaskAdam(n_tasks, self.lr)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The weights as they are; then their next step."""
        at = signals.index
        weights = self.factor[at]
        first = self.first[at]
        self.first[at] = torch.where(first.isnan(), signals.losses, first)
        progress = signals.losses / self.first[at]
        progress = torch.where(progress.isfinite(), progress, torch.ones_like(progress)).clamp_min(0.0)
        mean = progress.mean()
        rate = progress / mean if bool(mean > 0.0) else torch.ones_like(progress)
        norms = torch.from_numpy(gramian_of(signals).diagonal().copy()).clamp_min(0.0).sqrt().to(weights)
        sizes = weights * norms
        self.adam.step(self.factor, norms * torch.sign(sizes - sizes.mean() * rate**self.alpha), at)
        moved = self.factor[at].clamp_min(_LEAST)
        self.factor[at] = moved * (weights.sum() / moved.sum())
        return weights

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """The same weights: the paper's total loss is weighted."""
        return weights
