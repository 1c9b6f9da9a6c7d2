"""IMTL-L: learned scales that make the losses equal."""

from __future__ import annotations

import torch
from torch import nn

from polytask.balancing.balancer import Balancer, Signals
from polytask.shapes import Float, Tensor

__all__ = ["IMTLL"]


class IMTLL(Balancer):
    r"""Learn a scale for each loss so that all scaled losses tend to one, without favouring any.

    .. math:: \min \sum_i e^{s_i} L_i - s_i, \qquad w_i = e^{s_i}

    Example:
        >>> balancer = IMTLL()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([0.5, 2.0]))
        tensor([1., 1.], dtype=torch.float64)
        >>> [s.grad.item() for s in balancer.log_scale]
        [-0.5, 1.0]

    Note:
        The paper allows any base above one; this is base e. The learned numbers are parameters, one per task: give
        ``balancer.parameters()`` to your optimiser, without weight decay. Cost: one backward.

    References:
        Liu et al. (2021). Towards impartial multi-task learning. ICLR (section 3.2, equation 7).
    """

    keeps: frozenset[str] = frozenset({"permutation"})
    log_scale: nn.ParameterList

    def reset(self, n_tasks: int) -> None:
        """One learned log scale per task, starting at zero."""
        self.log_scale = nn.ParameterList(nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(n_tasks))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The scales; adds to the gradients of their logarithms."""
        present = [self.log_scale[i] for i in signals.index.tolist()]
        weights = torch.stack([parameter.detach() for parameter in present]).to(torch.float64).exp()
        for parameter, gradient in zip(present, weights * signals.losses - 1.0, strict=True):
            parameter.grad = gradient.to(parameter) if parameter.grad is None else parameter.grad + gradient
        return weights
