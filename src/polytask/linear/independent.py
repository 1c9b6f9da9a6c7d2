"""One ridge regression per task: the model without sharing, which every other one must beat."""

from __future__ import annotations

import numpy as np

from polytask.linear.model import LinearModel, Solution
from polytask.linear.moments import Intercept, Problem, Scale
from polytask.linear.rows import Array

__all__ = ["Independent"]


class Independent(LinearModel):
    r"""One ridge regression per task, all with the same strength.

    .. math:: \min_W \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2 + \tfrac{\alpha}{2} \|W\|_F^2

    with :math:`n` the mean number of labels a task.

    Args:
        alpha: Strength; zero is least squares, of smallest norm where it is not unique.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.

    Example:
        >>> import numpy as np
        >>> X, Y = np.eye(3), np.array([[1.0, 0.0], [2.0, np.nan], [3.0, 6.0]])
        >>> Independent(alpha=0.0).fit(X, Y).predict(X).round(6).tolist()
        [[1.0, 0.0], [2.0, 3.0], [3.0, 6.0]]

    Note:
        Closed form from one eigendecomposition per Gram matrix, ``O(T D^3)``, after which every further strength
        costs ``O(T D^2)``. ``alpha`` times the mean number of labels is the ``alpha`` of scikit-learn's ``Ridge``.

    References:
        Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems", Technometrics 1970.
    """

    path_span = 1e-7

    def __init__(self, alpha: float = 1.0, *, intercept: Intercept = "own", scale: Scale = "none"):
        self.alpha = alpha
        self.intercept = intercept
        self.scale = scale

    def solve(self, problem: Problem, alpha: float, start: Array | None = None) -> Solution:
        """Closed form; ``start`` is not needed."""
        values, vectors = problem.eigen
        shifted = values + alpha
        inverse = np.divide(1.0, shifted, out=np.zeros_like(shifted), where=shifted > 0)
        turned = np.matmul(problem.cross[:, None, :], vectors)
        W = np.matmul(turned * inverse[:, None, :], vectors.transpose(0, 2, 1))[:, 0, :]
        return Solution(W[None], problem.loss(W) + alpha / 2 * float((W**2).sum()))
