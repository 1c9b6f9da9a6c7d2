"""FairGrad: fair resource allocation between tasks."""

from __future__ import annotations

import numpy as np

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least
from polytask.balancing.resilient import PerTaskResilient
from polytask.balancing.solvers.bargaining import bargain, bargain_slope
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.shapes import Float, Tensor

__all__ = ["FairGrad"]


class FairGrad(Balancer):
    r"""Share the progress of a step fairly, with a dial from total progress to the least-favoured task.

    .. math:: \max_d \sum_i \frac{(g_i^\top d)^{1 - \alpha}}{1 - \alpha} \quad \Longrightarrow \quad
       G w = w^{-1/\alpha}

    Args:
        alpha: Towards 0 plain summation, 1 Nash-MTL (proportional fairness), 2 least potential delay, towards infinity
            max-min fairness.

    Raises:
        RecipeError: If ``alpha`` is not positive.

    Example:
        >>> FairGrad(alpha=1.0)(Signals.of([1.0, 1.0], gramian=[[4.0, 0.0], [0.0, 1.0]])).round(decimals=4)
        tensor([1.0153, 2.0305], dtype=torch.float64)

    Note:
        The authors minimise the residual of :math:`Gw = w^{-1/\alpha}` by least squares; here the convex potential
        whose gradient it is is minimised by a damped Newton method, which cannot end in a false minimum. The weights
        are scaled by :math:`\lVert G \rVert_F^{\alpha / (1 + \alpha)}`, as for Nash-MTL, so that one task is plain
        training; the direction is the paper's. A task with a zero gradient gets weight zero; at a Pareto-stationary
        point the min-norm weights are used, counted as a fallback. Cost: one gradient a task.

    References:
        Ban, Ji (2024). Fair resource allocation in multi-task learning. ICML (equations 3 and 4, algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single", "conflict_free"})

    def __init__(self, alpha: float = 2.0):
        super().__init__()
        self.alpha = at_least("FairGrad", "alpha", alpha, 0.0, above=True)

    def reset(self, n_tasks: int) -> None:
        """Step sizes of the matrix-free mode."""
        self.steps = PerTaskResilient(n_tasks)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The fair weights, in units of the Gramian's norm."""
        gramian = gramian_of(signals)
        exponent = 1.0 / self.alpha
        solution = bargain(gramian, exponent)
        if solution.reason:
            self.note_fallback(solution.reason)
            return tensor_of(solution.weights)
        largest = float(np.abs(gramian).max())
        if largest == 0.0:
            return tensor_of(solution.weights)
        power = 1.0 / (1.0 + exponent)
        return tensor_of(solution.weights * largest**power * np.linalg.norm(gramian / largest) ** power)

    def iterate(
        self, signals: Signals, weights: Float[Tensor, " T"], product: Float[Tensor, " T"]
    ) -> Float[Tensor, " T"]:
        """One resilient step towards equal ``(G w)_i w_i^(1/alpha)``; the weights keep their sum."""
        slope = bargain_slope(weights.cpu().numpy(), product.cpu().numpy(), 1.0 / self.alpha)
        moved = self.steps.step(weights, tensor_of(slope), signals.index)
        return moved * (weights.sum() / moved.sum())
