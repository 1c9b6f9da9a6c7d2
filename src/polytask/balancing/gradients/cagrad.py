"""CAGrad: conflict-averse gradient descent."""

from __future__ import annotations

from typing import ClassVar

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least
from polytask.balancing.solvers.conflict_averse import conflict_averse
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.ranges import Range, Ranges
from polytask.shapes import Float, Tensor

__all__ = ["CAGrad"]


class CAGrad(Balancer):
    r"""Stay near the average gradient, and there choose what is best for the task that gains least.

    .. math:: \max_d \min_i \; g_i^\top d \quad \text{with} \quad \lVert d - g_0 \rVert \le c \lVert g_0 \rVert,
       \qquad g_0 = \tfrac1T \sum_i g_i

    Args:
        c: Radius: towards 0 it is the average gradient, towards infinity MGDA's direction. From 1 on no task loses.
        rescale: Divide the direction by :math:`1 + c`, which keeps the step no longer than the average gradient's
            and makes one task plain training.

    Raises:
        RecipeError: If ``c`` is not above 0.

    Example:
        >>> CAGrad(c=0.5, rescale=False)(Signals.of([1.0, 1.0], gramian=[[1.0, 0.0], [0.0, 1.0]]))
        tensor([0.7500, 0.7500], dtype=torch.float64)

    Note:
        The dual is solved exactly on the Gramian (:func:`~polytask.balancing.solvers.conflict_averse.conflict_averse`);
        the authors' code uses SLSQP for it. The paper's direction is that of ``rescale=False``; of the three choices
        in the authors' code this default is the one of their toy problem, the multi-task experiments divide by
        :math:`1 + c^2`. Cost: one gradient a task.

    References:
        Liu et al. (2021). Conflict-averse gradient descent for multi-task learning. NeurIPS (equation 4, algorithm 1).
    """

    ranges: ClassVar[Ranges | None] = {"c": Range(0.1, 0.9)}

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})

    def __init__(self, c: float = 0.5, rescale: bool = True):
        super().__init__()
        self.c = at_least("CAGrad", "c", c, 0.0, above=True)
        self.rescale = rescale
        if not rescale:
            self.keeps = self.keeps - {"single"}

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights of the conflict-averse direction."""
        solution = conflict_averse(gramian_of(signals), self.c)
        if solution.reason:
            self.note_fallback(solution.reason)
        return tensor_of(solution.weights / (1.0 + self.c) if self.rescale else solution.weights)
