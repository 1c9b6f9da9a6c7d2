"""MoCo: multi-objective gradient correction."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least, within
from polytask.balancing.solvers.gramian import tensor_of
from polytask.balancing.solvers.simplex import project_on_simplex, shares
from polytask.shapes import Float, Tensor

__all__ = ["MoCo"]


class MoCo(Balancer):
    r"""Track every task's gradient over the steps and move the weights slowly towards the min-norm ones.

    .. math:: y_i \leftarrow y_i - \beta_k (y_i - h_i), \qquad
       \lambda \leftarrow \Pi_\Delta \bigl(\lambda - \gamma_k (Y Y^\top + \rho I) \lambda\bigr), \qquad d = Y^\top
       \lambda

    with :math:`\beta_k = \beta / k^{\sigma_\beta}` and :math:`\gamma_k = \gamma / k^{\sigma_\gamma}`.

    Args:
        beta: Rate of the tracked gradients.
        beta_sigma: How fast it falls.
        gamma: Rate of the weights.
        gamma_sigma: How fast it falls.
        rho: Pull towards equal weights.
        normalise: Track :math:`h_i = L_i g_i / \lVert g_i \rVert`, as the authors' code does, instead of
            :math:`h_i = g_i`, the paper's equation.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = MoCo(normalise=False)
        >>> balancer.bind(["a", "b"])
        >>> signals = Signals.of([1.0, 1.0], rows=[[1.0, 0.0], [0.0, 1.0]])
        >>> balancer.combine(signals, balancer(signals))
        tensor([0.2500, 0.2500], dtype=torch.float64)

    Note:
        The weights are projected on the simplex, as in the paper; the authors' multi-task code takes a softmax instead.
        The tracked gradients start at zero, as in both. :math:`k` counts the balancer's steps; an absent task keeps
        its tracked gradient and its share and takes no part in the direction. Cost: one gradient a task, held in
        memory, and as much again for the tracked ones, part of the ``state_dict``.

    References:
        Fernando et al. (2023). Mitigating gradient bias in multi-objective learning: A provably convergent approach.
        ICLR (equations 7 and 9, algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "rows"})
    keeps: frozenset[str] = frozenset({"permutation"})
    tracked: Tensor
    share: Tensor
    steps: Tensor

    def __init__(
        self,
        beta: float = 0.5,
        beta_sigma: float = 0.5,
        gamma: float = 0.1,
        gamma_sigma: float = 0.5,
        rho: float = 0.0,
        normalise: bool = True,
    ):
        super().__init__()
        self.beta = within("MoCo", "beta", beta, 0.0, 1.0)
        self.beta_sigma = at_least("MoCo", "beta_sigma", beta_sigma, 0.0)
        self.gamma = at_least("MoCo", "gamma", gamma, 0.0, above=True)
        self.gamma_sigma = at_least("MoCo", "gamma_sigma", gamma_sigma, 0.0)
        self.rho = at_least("MoCo", "rho", rho, 0.0)
        self.normalise = normalise

    def reset(self, n_tasks: int) -> None:
        """Equal weights; tracked gradients are allocated when their length is known."""
        self.register_buffer("share", torch.full((n_tasks,), 1.0 / n_tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("tracked", torch.zeros(n_tasks, 0))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Move the tracked gradients, then the weights."""
        rows = signals.require("rows", "MoCo")
        kept = self.row_state("tracked", rows)
        self.steps += 1
        k = int(self.steps)
        beta, gamma = self.beta / k**self.beta_sigma, self.gamma / k**self.gamma_sigma
        for i, row, loss in zip(signals.index.tolist(), rows, signals.losses.tolist(), strict=True):
            norm = float(row.norm()) if self.normalise else 0.0
            factor = loss / norm if norm > 0.0 else 1.0
            kept[i].mul_(1.0 - beta).add_(row, alpha=beta * factor)
        at = signals.index
        held = self.share[at]
        share = tensor_of(shares(held.cpu().numpy()))
        tracked = kept[at.to(kept.device)]
        gramian = (tracked @ tracked.T).to(share)
        moved = share - gamma * (gramian @ share + self.rho * share)
        share = tensor_of(project_on_simplex(moved.numpy()))
        self.share[at] = share.to(self.share) * held.sum()
        return share

    def combine(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " P"] | None:
        """The tracked gradients, weighted."""
        if signals.rows is None or not signals.is_finite:
            return None
        return weights.to(self.tracked) @ self.tracked[signals.index.to(self.tracked.device)]
