"""Nash-MTL: multi-task learning as a bargaining game."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least
from polytask.balancing.resilient import PerTaskResilient
from polytask.balancing.solvers.bargaining import bargain, bargain_slope
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.ranges import Ranges
from polytask.shapes import Float, Tensor

__all__ = ["NashMTL"]


class NashMTL(Balancer):
    r"""Let the tasks bargain: the direction whose product of gains is the largest.

    .. math:: G \alpha = 1 / \alpha, \qquad w = \alpha \sqrt{\lVert G \rVert_F}

    It is the minimum of the convex :math:`\tfrac12 \alpha^\top G \alpha - \sum_i \log \alpha_i`.

    Args:
        max_norm: Shorten the direction to this norm where it is longer; ``None`` leaves it.

    Raises:
        RecipeError: If ``max_norm`` is not positive.

    Example:
        >>> NashMTL()(Signals.of([1.0, 1.0], gramian=[[4.0, 0.0], [0.0, 1.0]])).round(decimals=4)
        tensor([1.0153, 2.0305], dtype=torch.float64)

    Note:
        Solved exactly by a damped Newton method (:func:`~polytask.balancing.solvers.bargaining.bargain`), where the
        authors iterate a linearised convex program. As in their code the Gramian is divided by its Frobenius norm,
        without which the direction would have norm :math:`\sqrt T` whatever the gradients; it makes one task plain
        training. Their code also clips to norm 1, which is ``max_norm=1``, and may keep weights for several steps,
        which here is the mode ``every_k``. A task with a zero gradient gets weight zero; at a Pareto-stationary point
        there is no bargain and the min-norm weights are used, counted as a fallback. Cost: one gradient a task.

    References:
        Navon et al. (2022). Multi-task learning as a bargaining game. ICML (claim 3.2, algorithm 1).
    """

    ranges: ClassVar[Ranges | None] = {}

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single", "scale", "conflict_free"})

    def __init__(self, max_norm: float | None = None):
        super().__init__()
        self.max_norm = None if max_norm is None else at_least("NashMTL", "max_norm", max_norm, 0.0, above=True)
        if max_norm is not None:
            self.keeps = self.keeps - {"single"}

    def reset(self, n_tasks: int) -> None:
        """Step sizes of the matrix-free mode."""
        self.steps = PerTaskResilient(n_tasks)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The bargaining weights, in units of the Gramian's norm."""
        gramian = gramian_of(signals)
        solution = bargain(gramian)
        if solution.reason:
            self.note_fallback(solution.reason)
            return tensor_of(solution.weights)
        largest = float(np.abs(gramian).max())
        size = float(largest * np.linalg.norm(gramian / largest)) ** 0.5 if largest > 0.0 else 0.0
        weights = solution.weights * size
        if self.max_norm is not None:
            norm = max(float(weights @ gramian @ weights), 0.0) ** 0.5
            weights = weights * min(1.0, self.max_norm / norm) if norm > 0.0 else weights
        return tensor_of(weights)

    def iterate(
        self, signals: Signals, weights: Float[Tensor, " T"], product: Float[Tensor, " T"]
    ) -> Float[Tensor, " T"]:
        """One resilient step towards equal ``w_i (G w)_i``; the weights keep their sum."""
        slope = bargain_slope(weights.cpu().numpy(), product.cpu().numpy(), 1.0)
        moved = self.steps.step(weights, tensor_of(slope), signals.index)
        return moved * (weights.sum() / moved.sum())
