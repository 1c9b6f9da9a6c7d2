"""ExcessMTL: robust multi-task learning with excess risks."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least
from polytask.shapes import Float, Tensor

__all__ = ["ExcessMTL"]

_SMALLEST = 1e-7


class ExcessMTL(Balancer):
    r"""Move weight to the tasks with the most left to learn, by an estimate that label noise does not inflate.

    .. math:: h_i \leftarrow h_i + g_i^2, \qquad \hat E_i = g_i^\top \mathrm{diag}(h_i)^{-1/2} g_i, \qquad
       \alpha_i \propto \alpha_i \exp(\eta \hat E_i / \hat E_i^{(0)})

    Args:
        rate: :math:`\eta`.
        warmup: Steps of a task with weights held, whose mean excess risk becomes :math:`\hat E^{(0)}`.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = ExcessMTL(rate=1.0)
        >>> balancer.bind(["learnt", "stuck"])
        >>> balancer(Signals.of([1.0, 1.0], rows=[[1.0, 0.0], [0.0, 1.0]]))
        tensor([0.5000, 0.5000], dtype=torch.float64)
        >>> weights = balancer(Signals.of([1.0, 1.0], rows=[[0.1, 0.0], [0.0, 1.0]]))
        >>> bool(weights[1] > weights[0])
        True

    Note:
        As in the paper the weights add up to one and start equal (the authors' code starts at one each) and the excess
        risk is relative to its first value. That value is the task's first excess risk, or with ``warmup``
        the mean over so many steps; the paper's appendix collects three epochs. In the authors' code the very first
        step already moves the weights by the raw excess risk, before it has a scale; here it does not. An absent task
        keeps its share. Heads are weighted likewise. Weights concentrate with time: keep the rate small.
        Cost: one gradient a task, held in memory, and as much again for the squares, part of the ``state_dict``.

    References:
        He et al. (2024). Robust multi-task learning with excess risks. ICML (equations 6, 7 and 9, section 3.2).
    """

    needs: frozenset[str] = frozenset({"losses", "rows"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    squares: Tensor
    logits: Tensor
    first: Tensor
    seen: Tensor

    def __init__(self, rate: float = 0.01, warmup: int = 1):
        super().__init__()
        self.rate = at_least("ExcessMTL", "rate", rate, 0.0, above=True)
        self.warmup = int(at_least("ExcessMTL", "warmup", warmup, 1))

    def reset(self, n_tasks: int) -> None:
        """Equal weights; the squares are allocated when the length of a gradient is known."""
        for name in ("logits", "first", "seen"):
            self.register_buffer(name, torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(n_tasks, 0))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """One exponentiated-gradient step on the weights of the tasks that are past their warm-up."""
        rows = signals.require("rows", "ExcessMTL")
        squares = self.row_state("squares", rows)
        excess = torch.zeros_like(signals.losses)
        for k, (i, row) in enumerate(zip(signals.index.tolist(), rows, strict=True)):
            square = row * row
            squares[i] += square
            excess[k] = (square / (squares[i] + _SMALLEST).sqrt()).sum()
        at = signals.index
        warm = self.seen[at] < self.warmup
        self.first[at] += torch.where(warm, excess / self.warmup, torch.zeros_like(excess))
        self.seen[at] += 1.0
        relative = excess / (self.first[at] + _SMALLEST)
        moved = self.logits[at] + torch.where(warm, torch.zeros_like(excess), self.rate * relative)
        # together the present tasks keep what they had, so that an absent one loses nothing
        self.logits[at] = moved + (self.logits[at].logsumexp(0) - moved.logsumexp(0))
        return torch.softmax(moved, dim=0)

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """The same weights: the paper weighs whole losses."""
        return weights
