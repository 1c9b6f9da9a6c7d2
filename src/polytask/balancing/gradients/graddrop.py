"""GradDrop: gradient sign dropout."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.draws import Draws
from polytask.balancing.options import PerTask, per_task, within
from polytask.shapes import Float, Tensor

__all__ = ["GradDrop"]


class GradDrop(Balancer):
    r"""Where tasks disagree about the sign of an element, draw one sign and drop the others.

    .. math:: p = \tfrac12 \Bigl(1 + \frac{\sum_i g_i}{\sum_i \lvert g_i \rvert}\Bigr), \quad u \sim \mathcal U(0, 1),
       \quad d = \sum_i \bigl(\ell_i + (1 - \ell_i) \, [\mathrm{sign}(g_i) = \mathrm{sign}(p - u)]\bigr) g_i

    element by element.

    Args:
        leak: :math:`\ell`, from 0 (the paper's rule) to 1 (the task is never dropped); zero by default.
        seed: The draws depend on it and on the number of steps alone.

    Raises:
        RecipeError: When bound to tasks that ``leak`` does not fit.

    Example:
        >>> balancer = GradDrop()
        >>> balancer.bind(["a", "b"])
        >>> signals = Signals.of([1.0, 1.0], rows=[[1.0, -1.0, 0.0], [2.0, -3.0, 0.0]])
        >>> balancer.combine(signals, balancer(signals))
        tensor([ 3., -4.,  0.], dtype=torch.float64)

    Note:
        The paper drops at the shared features, with the sign of the activation and per example; this is the form on the
        gradients of the shared parameters, which needs no change to the model. Cost: one gradient a task, held
        in memory, and about three more vectors of that length.

    References:
        Chen et al. (2020). Just pick a sign: Optimizing deep multitask models with gradient sign dropout. NeurIPS
        (equations 1 and 2, algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "rows"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    leaks: Tensor

    def __init__(self, leak: PerTask = None, seed: int = 0):
        super().__init__()
        self.leak = leak
        self.draws = Draws(seed)

    def reset(self, n_tasks: int) -> None:
        """Look the leaks up."""
        leaks = per_task("GradDrop", "leak", self.leak, self.tasks, default=0.0)
        for name, leak in zip(self.tasks, leaks.tolist(), strict=True):
            within("GradDrop", f"leak for {name!r}", leak, 0.0, 1.0)
        self.register_buffer("leaks", leaks)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """One for each task: what is dropped is decided element by element."""
        return torch.ones_like(signals.losses)

    def combine(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " P"] | None:
        """The sum of the elements that were not dropped."""
        rows = signals.rows
        if rows is None or not signals.is_finite:
            return None
        size = torch.zeros_like(rows[0])
        for row in rows:
            size += row.abs()
        total = rows.sum(dim=0)
        draw = torch.rand(total.shape, generator=self.draws.torch(rows.device), dtype=rows.dtype, device=rows.device)
        # p > u, multiplied by 2 * size: no division, and where all elements are zero nothing is chosen
        up = (size + total) > 2.0 * size * draw
        kept = torch.zeros_like(total)
        for row, leak in zip(rows, self.leaks[signals.index.to(self.leaks.device)].tolist(), strict=True):
            agrees = torch.where(up, row > 0.0, row < 0.0).to(row.dtype)
            kept += (leak + (1.0 - leak) * agrees) * row
        return kept
