"""IMTL: impartial losses and impartial gradients together."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.gradients.imtl_g import IMTLG
from polytask.balancing.losses.imtl_l import IMTLL
from polytask.shapes import Float, Tensor

__all__ = ["IMTL"]


class IMTL(Balancer):
    r"""Learn a scale for each loss, and follow the impartial direction of the scaled losses.

    .. math:: L_i' = e^{s_i} L_i - s_i, \qquad d = \sum_i w_i' \nabla L_i', \qquad w_i = w_i' e^{s_i}

    with :math:`w'` from :class:`~polytask.balancing.IMTLG` on the gradients of :math:`L'` and :math:`s` learned as in
    :class:`~polytask.balancing.IMTLL`.

    Example:
        >>> balancer = IMTL()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[4.0, 0.0], [0.0, 1.0]]))
        tensor([0.3333, 0.6667], dtype=torch.float64)

    Note:
        Heads see the scaled losses. Give ``balancer.parameters()`` to your optimiser, without weight decay.
        Cost: one gradient a task.

    References:
        Liu et al. (2021). Towards impartial multi-task learning. ICLR (algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation"})

    def __init__(self) -> None:
        super().__init__()
        self.scales = IMTLL()
        self.direction = IMTLG()

    def reset(self, n_tasks: int) -> None:
        """One learned log scale per task."""
        self.scales.bind(self.tasks)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Impartial weights of the scaled losses, times the scales."""
        gramian = signals.require("gramian", "IMTL")
        scale = self.scales.weigh(signals)
        scaled = Signals.of(signals.losses * scale, gramian=gramian * torch.outer(scale, scale))
        return self.direction.weigh(scaled) * scale

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """The learned scales."""
        present = [self.scales.log_scale[i].detach() for i in signals.index.tolist()]
        return torch.stack(present).to(weights).exp()
