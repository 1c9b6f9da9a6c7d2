"""Tasks that use the same few features."""

from __future__ import annotations

from polytask.linear.penalties import Features, Penalty
from polytask.linear.proximal import ProximalModel

__all__ = ["L21"]


class L21(ProximalModel):
    r"""Joint feature selection: a feature is used by all tasks or by none.

    .. math:: \min_W \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2 + \alpha \sum_d \|(w_{1d}, \dots, w_{Td})\|_2

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
        >>> X = np.random.default_rng(0).normal(size=(50, 4))
        >>> Y = np.stack([X[:, 0] + X[:, 1], X[:, 0] - X[:, 1]], axis=1)
        >>> (L21(alpha=0.1).fit(X, Y).coef_ != 0).tolist()
        [[True, True, False, False], [True, True, False, False]]

    Note:
        Accelerated proximal gradient stopped on a duality gap, so that ``gap_`` bounds the distance to the optimum.
        On complete targets and shared rows this is scikit-learn's ``MultiTaskLasso`` with the same ``alpha``; here
        labels may be missing and every task may have rows of its own. Cost: a product with the Gram matrices an
        iteration, ``O(T D^2)``.

    References:
        Obozinski, Taskar and Jordan, "Joint Covariate Selection and Joint Subspace Selection for Multiple
        Classification Problems", Statistics and Computing 2010; Liu, Ji and Ye, "Multi-Task Feature
        Learning via Efficient L2,1-Norm Minimization", UAI 2009.
    """

    def penalties(self, alpha: float, shape: tuple[int, int]) -> tuple[Penalty, ...]:
        """The norm across tasks, summed over features."""
        return (Features(alpha),)
