"""Tasks that share a low-dimensional subspace."""

from __future__ import annotations

from polytask.linear.penalties import Penalty, SingularValues
from polytask.linear.proximal import ProximalModel

__all__ = ["TraceNorm"]


class TraceNorm(ProximalModel):
    r"""The tasks' coefficients lie near a subspace of few dimensions, which is learned.

    .. math:: \min_W \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2 + \alpha \|W\|_*

    with the trace norm :math:`\|W\|_*`, the sum of the singular values: the convex envelope of the rank.

    Args:
        alpha: Strength, above zero.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.
        tol: Largest duality gap, relative to the objective, at which to stop.
        max_iter: Most iterations.

    Raises:
        RecipeError: If ``alpha`` or ``tol`` is not above zero, or ``max_iter`` is below one.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(50, 5))
        >>> Y = X[:, :1] @ np.array([[1.0, -2.0, 3.0]])
        >>> int(np.linalg.matrix_rank(TraceNorm(alpha=0.1).fit(X, Y).coef_, tol=1e-6))
        1

    Note:
        Accelerated proximal gradient, one singular value decomposition of a [T, D] matrix per iteration; stops on a
        duality gap, so that ``gap_`` bounds the distance to the optimum. The subspace passes through zero: tasks that
        are alike rather than collinear are served by :class:`~polytask.linear.mean_regularised.MeanRegularised`.

    References:
        Ji and Ye, "An Accelerated Gradient Method for Trace Norm Minimization", ICML 2009; Argyriou,
        Evgeniou and Pontil, "Convex Multi-Task Feature Learning", Machine Learning 2008 (the norm squared).
    """

    def penalties(self, alpha: float, shape: tuple[int, int]) -> tuple[Penalty, ...]:
        """The trace norm of the whole."""
        return (SingularValues(alpha),)
