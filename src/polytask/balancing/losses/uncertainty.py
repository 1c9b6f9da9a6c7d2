"""Uncertainty weighting: a learned noise level per task."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import within
from polytask.errors import RecipeError
from polytask.ranges import Ranges
from polytask.shapes import Float, Tensor

__all__ = ["Uncertainty"]


class Uncertainty(Balancer):
    r"""Learn a noise level for each task and weigh its loss by one over the variance.

    With :math:`s_i = \log \sigma_i^2` learned beside the model,

    .. math:: \min \sum_i \tfrac12 e^{-s_i} L_i + r(s_i), \qquad w_i = \tfrac12 e^{-s_i},

    where :math:`r(s) = \tfrac12 s` for ``variant="log"`` (Kendall et al.) and :math:`r(s) = \log(1 + e^{s})` for
    ``variant="positive"`` (Liebel and Koerner), with which the total cannot become negative.

    Args:
        variant: ``log`` or ``positive``.
        start: First value of every :math:`s_i`; the default starts at the weights of plain summation.

    Raises:
        RecipeError: If the variant is unknown or the start out of range.

    Example:
        >>> balancer = Uncertainty()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([0.5, 2.0]))
        tensor([1., 1.], dtype=torch.float64)
        >>> [round(s.grad.item(), 3) for s in balancer.log_variance]
        [0.0, -1.5]

    Note:
        Kendall et al. derive 1/2 for regression and 1 for classification as the factor of a loss; as most code does,
        one factor is used for all tasks, which the learned variances absorb. Their start is 0 with some code at
        -0.5; here it is -log 2, so that the first step is plain summation. The learned numbers are parameters: give
        ``balancer.parameters()`` to your optimiser, without weight decay. They are one parameter per task,
        so that an absent task's gets no gradient and an optimiser with momentum leaves it alone.
        For small losses the variances keep shrinking and the effective learning rate grows. Cost: one backward.

    References:
        Kendall, Gal, Cipolla (2018). Multi-task learning using uncertainty to weigh losses for scene geometry and
        semantics. CVPR (equation 10).
        Liebel, Koerner (2018). Auxiliary tasks in multi-task learning. arXiv:1805.06334 (equation 3).
    """

    ranges: ClassVar[Ranges | None] = {}

    keeps: frozenset[str] = frozenset({"permutation"})
    log_variance: nn.ParameterList

    def __init__(self, variant: str = "log", start: float = -0.6931471805599453):
        super().__init__()
        if variant not in ("log", "positive"):
            raise RecipeError(f"Uncertainty knows the variants 'log' and 'positive', got {variant!r}.")
        self.variant = variant
        self.start = within("Uncertainty", "start", start, -100.0, 100.0)

    def reset(self, n_tasks: int) -> None:
        """One learned log variance per task."""
        self.log_variance = nn.ParameterList(
            nn.Parameter(torch.tensor(self.start, dtype=torch.float64)) for _ in range(n_tasks)
        )

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Half the reciprocal variances; adds to the gradients of their logarithms."""
        known = list(self.log_variance)
        present = [known[i] for i in signals.index.tolist()]
        s = torch.stack(present).to(torch.float64)
        weights = 0.5 * torch.exp(-s)
        slope = torch.full_like(s, 0.5) if self.variant == "log" else torch.sigmoid(s)
        for parameter, gradient in zip(present, slope - weights * signals.losses, strict=True):
            parameter.grad = gradient.to(parameter) if parameter.grad is None else parameter.grad + gradient
        return weights
