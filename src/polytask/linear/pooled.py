"""One ridge regression for the rows of all tasks: the model that shares everything."""

from __future__ import annotations

import numpy as np

from polytask.linear.model import LinearModel, Solution
from polytask.linear.moments import Intercept, Problem, Scale
from polytask.linear.rows import Array

__all__ = ["Pooled"]


class Pooled(LinearModel):
    r"""One ridge regression for all tasks, as if their rows were one data set.

    .. math:: \min_w \tfrac{1}{2 n} \sum_t \|y_t - X_t w\|^2 + \tfrac{\alpha T}{2} \|w\|^2

    This is :class:`~polytask.linear.independent.Independent` under the constraint that all tasks agree. Hard to beat
    when labels are few.

    Args:
        alpha: Strength; zero is least squares, of smallest norm where it is not unique.
        intercept: ``joint``: one for all tasks; ``own``: one per task (slopes alone are pooled); ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread, which is the only sense in which targets of different units can be pooled; ``none``.

    Example:
        >>> import numpy as np
        >>> model = Pooled(alpha=0.0).fit([np.array([[0.0], [1.0]]), np.array([[2.0]])], [[1.0, 3.0], [5.0]])
        >>> model.coef_.round(6).tolist(), model.intercept_.round(6).tolist()
        ([[2.0], [2.0]], [1.0, 1.0])

    Note:
        Closed form from one eigendecomposition of the summed Gram matrix, ``O(T D^2 + D^3)``.

    References:
        The full pooling end of Gelman and Hill, "Data Analysis Using Regression and Multilevel/Hierarchical Models",
        Cambridge 2007, chapter 12.
    """

    path_span = 1e-7

    def __init__(self, alpha: float = 1.0, *, intercept: Intercept = "joint", scale: Scale = "none"):
        self.alpha = alpha
        self.intercept = intercept
        self.scale = scale

    def solve(self, problem: Problem, alpha: float, start: Array | None = None) -> Solution:
        """Closed form; ``start`` is not needed."""
        n_tasks, width = problem.shape
        values, vectors = np.linalg.eigh(problem.gram.mean(0))
        values = np.where(values > values[-1] * width * np.finfo(float).eps, values, 0.0) + alpha
        inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
        w = vectors @ (inverse * (vectors.T @ problem.cross.mean(0)))
        W = np.tile(w, (n_tasks, 1))
        return Solution(W[None], problem.loss(W) + alpha / 2 * float((W**2).sum()))
