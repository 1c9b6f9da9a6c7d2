"""DB-MTL: dual balancing of losses and gradients."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.losses._positive import positive
from polytask.balancing.options import at_least, within
from polytask.shapes import Float, Tensor

__all__ = ["DBMTL"]

_SMALLEST = 1e-8


class DBMTL(Balancer):
    r"""Take log losses, average each task's gradient over the steps, and bring all to the length of the longest.

    .. math:: m_i \leftarrow \beta_k m_i + (1 - \beta_k) \nabla \log L_i, \qquad \beta_k = \beta / k^{\sigma}, \qquad
       d = \sum_i \frac{\max_j \lVert m_j \rVert}{\lVert m_i \rVert} \, m_i

    Args:
        beta: :math:`\beta`; with 0 nothing is remembered, and the Gramian is enough.
        sigma: :math:`\sigma`.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = DBMTL(beta=0.0)
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 2.0], gramian=[[4.0, 0.0], [0.0, 4.0]]))
        tensor([1., 1.], dtype=torch.float64)

    Note:
        The authors start the average at zero, which shortens the first steps but not relative to each other; here
        it starts at the first gradient. :math:`k` counts a task's own steps, and an absent task keeps its average and
        takes no part. Heads see the log losses. Cost: one gradient a task, held in memory, and as much again for the
        averages, which are part of the ``state_dict``; with ``beta=0`` one gradient a task and no rows.

    References:
        Lin et al. (2023). Dual-balancing for multi-task learning. arXiv:2308.12029 (algorithm 1, equation 2).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian", "rows"})
    keeps: frozenset[str] = frozenset({"permutation", "scale"})
    average: Tensor
    count: Tensor

    def __init__(self, beta: float = 0.9, sigma: float = 0.0):
        super().__init__()
        self.beta = within("DBMTL", "beta", beta, 0.0, 1.0)
        self.sigma = at_least("DBMTL", "sigma", sigma, 0.0)
        if self.beta == 0.0:
            self.needs = frozenset({"losses", "gramian"})

    def reset(self, n_tasks: int) -> None:
        """No averages yet; they are allocated when the length of a gradient is known."""
        self.register_buffer("count", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("average", torch.zeros(n_tasks, 0))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights that bring the (averaged) gradients of the log losses to one length."""
        inverse = 1.0 / positive(self, signals.losses, _SMALLEST)
        if self.beta > 0.0:
            lengths = self._remember(signals, signals.require("rows", "DBMTL with beta above 0"), inverse)
        else:
            lengths = signals.require("gramian", "DBMTL").diagonal().clamp_min(0.0).sqrt() * inverse
        return torch.where(lengths > 0.0, lengths.max() / lengths, torch.zeros_like(lengths)) * inverse

    def combine(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " P"] | None:
        """The sum of the averaged gradients at the length of the longest."""
        if self.beta == 0.0 or signals.rows is None or not signals.is_finite:
            return None
        at = signals.index.to(self.average.device)
        factors = (weights * signals.losses.clamp_min(_SMALLEST)).to(self.average.device)
        return factors.to(self.average.dtype) @ self.average[at]

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """The reciprocal losses, as the loss is the logarithm."""
        return 1.0 / signals.losses.clamp_min(_SMALLEST)

    def _remember(self, signals: Signals, rows: Tensor, inverse: Tensor) -> Float[Tensor, " T"]:
        average = self.row_state("average", rows)
        lengths = torch.zeros_like(inverse)
        for k, (i, row, factor) in enumerate(zip(signals.index.tolist(), rows, inverse.tolist(), strict=True)):
            self.count[i] += 1.0
            steps = float(self.count[i])
            keep = self.beta / steps**self.sigma if steps > 1.0 else 0.0
            average[i].mul_(keep).add_(row, alpha=(1.0 - keep) * factor)
            lengths[k] = average[i].norm()
        return lengths
