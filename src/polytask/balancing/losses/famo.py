"""FAMO: fast adaptive multitask optimization."""

from __future__ import annotations

from typing import ClassVar

import torch

from polytask.balancing.adam import PerTaskAdam
from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.losses._positive import positive
from polytask.balancing.options import PerTask, at_least, per_task
from polytask.ranges import Range, Ranges
from polytask.shapes import Float, Tensor

__all__ = ["FAMO"]

_SMALLEST = 1e-8


class FAMO(Balancer):
    r"""Lower all log losses at about the same rate, judging by what the last step did to each loss.

    .. math:: z = \mathrm{softmax}(\xi), \qquad w_i = c \, \frac{z_i}{L_i - b_i}, \qquad
       c = \Bigl(\sum_j \frac{z_j}{L_j - b_j}\Bigr)^{-1}

    and after the step, with the losses :math:`L'` of the same batch, one Adam step on :math:`\xi` along
    :math:`\nabla_\xi \, z^\top (\log(L - b) - \log(L' - b))`: a task that improved more gets less.

    Args:
        lr: Learning rate of :math:`\xi`.
        decay: Weight decay of :math:`\xi`, which pulls the weights towards equal.
        floor: :math:`b`, the lowest value each loss can take; zero by default.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = FAMO(lr=0.1)
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0]))
        tensor([0.5000, 0.5000], dtype=torch.float64)
        >>> balancer.after_step(Signals.of([0.5, 1.0]))
        >>> balancer(Signals.of([1.0, 1.0]))
        tensor([0.4502, 0.5498], dtype=torch.float64)

    Note:
        Cost: one backward, and one more forward of the same batch for the losses after the step. An absent task keeps
        its logit and the moments of its Adam. The authors' code defaults to a decay of 1e-5 in the class and 1e-3 in
        the experiments; the latter is the default here. A step without losses after it leaves the logits alone.

    References:
        Liu et al. (2023). FAMO: Fast adaptive multitask optimization. NeurIPS (algorithm 1).
    """

    ranges: ClassVar[Ranges | None] = {"lr": Range(0.005, 0.2, log=True)}

    needs: frozenset[str] = frozenset({"losses", "losses_after"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    logits: Tensor
    gaps: Tensor
    least: Tensor

    def __init__(self, lr: float = 0.025, decay: float = 1e-3, floor: PerTask = None):
        super().__init__()
        self.lr = at_least("FAMO", "lr", lr, 0.0, above=True)
        self.decay = at_least("FAMO", "decay", decay, 0.0)
        self.floor = floor

    def reset(self, n_tasks: int) -> None:
        """Equal logits, no gaps known, and the optimiser's moments."""
        self.register_buffer("logits", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("gaps", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("least", per_task("FAMO", "floor", self.floor, self.tasks, default=0.0))
        self.adam = PerTaskAdam(n_tasks, self.lr, decay=self.decay)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights along which all log losses fall at the rate that the logits ask for."""
        gaps = positive(self, signals.losses - self.least[signals.index], _SMALLEST)
        self.gaps[signals.index] = gaps
        shares = torch.softmax(self.logits[signals.index], dim=0) / gaps
        return shares / shares.sum()

    def after_step(self, signals: Signals) -> None:
        """Move the logits by how much each log loss fell."""
        if not bool(torch.isfinite(signals.losses).all()):
            self.note_fallback("a loss after the step is not finite: the logits stay as they are")
            return
        at = signals.index.to(self.gaps.device)
        after = positive(self, signals.losses.to(self.gaps) - self.least[at], _SMALLEST)
        fall = self.gaps[at].log() - after.log()
        z = torch.softmax(self.logits[at], dim=0)
        self.adam.step(self.logits, z * (fall - (z * fall).sum()), at)
