"""PCGrad: projecting conflicting gradients."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.draws import Draws
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.balancing.solvers.surgery import orders, project_conflicts
from polytask.ranges import Ranges
from polytask.shapes import Float, Tensor

__all__ = ["PCGrad"]


class PCGrad(Balancer):
    r"""Remove from each task's gradient what opposes another task's, one other task after the other.

    .. math:: g_i \leftarrow g_i - \frac{g_i^\top g_j}{\lVert g_j \rVert^2} g_j
       \quad \text{if } g_i^\top g_j < 0, \qquad d = \sum_i g_i

    with the other tasks :math:`j` in random order and their original gradients.

    Args:
        seed: The orders depend on it and on the number of steps alone.

    Example:
        >>> PCGrad()(Signals.of([1.0, 1.0], gramian=[[1.0, -1.0], [-1.0, 4.0]]))
        tensor([2.0000, 1.2500], dtype=torch.float64)

    Note:
        Exact on the Gramian, all tasks at once, without a full gradient (the paper's code works on the gradients one
        pair at a time). The direction is the sum, as in the paper; some code takes the mean. With more than two tasks
        the last projection may bring a conflict back. Cost: one gradient a task.

    References:
        Yu et al. (2020). Gradient surgery for multi-task learning. NeurIPS (algorithm 1).
    """

    ranges: ClassVar[Ranges | None] = {}

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"single"})

    def __init__(self, seed: int = 0):
        super().__init__()
        self.draws = Draws(seed)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Column sums of the weights that make the projected gradients."""
        gramian = gramian_of(signals)
        mixture = project_conflicts(gramian, orders(self.draws.numpy(), len(gramian)))
        return tensor_of(np.asarray(mixture.sum(axis=0)))
