"""Tasks drawn to their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from polytask.linear.model import LinearModel, Solution
from polytask.linear.moments import Intercept, Problem, Scale
from polytask.linear.rows import Array

__all__ = ["MeanRegularised"]


class MeanRegularised(LinearModel):
    r"""Every task is drawn to the mean of all tasks.

    .. math:: \min_W \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2 + \tfrac{\alpha}{2} \sum_t \|w_t - \bar w\|^2
        + \tfrac{\rho T}{2} \|\bar w\|^2

    Strong ``alpha`` pools the tasks, weak ``alpha`` leaves each to itself: the first model to try, and with
    ``intercept="joint"`` the counterpart of a mixed model with random intercepts and slopes.

    Args:
        alpha: Strength of the pull to the mean, above zero.
        ridge: Strength ``rho`` on the mean itself.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.

    Raises:
        RecipeError: If ``alpha`` is not above zero or ``ridge`` is below it.

    Example:
        >>> import numpy as np
        >>> X = [np.array([[1.0], [-1.0]])] * 2
        >>> Y = [np.array([1.0, -1.0]), np.array([3.0, -3.0])]
        >>> MeanRegularised(alpha=1.0, ridge=0.0).fit(X, Y).coef_.round(6).tolist()
        [[1.5], [2.5]]

    Note:
        Closed form: with ``A_t = (G_t + alpha I)^-1`` the stationary tasks are
        ``w_t = A_t (c_t + (alpha - rho) m)``, and their mean ``m`` solves
        ``mean_t[A_t (G_t + rho I)] m = mean_t[A_t c_t]``. One eigendecomposition per Gram matrix serves a whole path;
        each strength then costs ``O(T D^3)`` in one matrix product. The paper writes ``w_t = w_0 + v_t`` with ridges on
        ``w_0`` and ``v_t``; minimising over ``w_0`` gives this penalty.

    References:
        Evgeniou and Pontil, "Regularized Multi-Task Learning", KDD 2004.
    """

    searched: ClassVar[Mapping[str, tuple[float, ...]]] = {"ridge": (1e-4, 1e-2)}
    path_span = 1e-7

    def __init__(self, alpha: float = 1.0, *, ridge: float = 1e-4, intercept: Intercept = "own", scale: Scale = "none"):
        self.alpha = alpha
        self.ridge = ridge
        self.intercept = intercept
        self.scale = scale

    def check_settings(self) -> None:
        """Raise if a setting is out of its range."""
        super().check_settings()
        self._require("alpha", lambda alpha: alpha > 0, "above zero (Independent is the model that does not share)")
        self._require("ridge", lambda ridge: ridge >= 0 and math.isfinite(ridge), "a finite number, zero or more")

    def solve(self, problem: Problem, alpha: float, start: Array | None = None) -> Solution:
        """Closed form; ``start`` is not needed."""
        n_tasks, width = problem.shape
        values, vectors = problem.eigen
        inverse = 1.0 / (values + alpha)

        def solve_each(right: Array) -> Array:
            turned = np.matmul(right[:, None, :], vectors)
            solved: Array = np.matmul(turned * inverse[:, None, :], vectors.transpose(0, 2, 1))[:, 0, :]
            return solved

        # alpha A_t - I = -A_t G_t: written so, no digits are lost when alpha is large.
        kept = (values + self.ridge) * inverse
        system = (vectors * kept[:, None, :]).transpose(1, 0, 2).reshape(width, -1)
        system = system @ vectors.transpose(1, 0, 2).reshape(width, -1).T / len(values)
        own = solve_each(problem.cross)
        mean = np.linalg.lstsq(system, own.mean(0), rcond=None)[0]
        W = own + (alpha - self.ridge) * solve_each(np.tile(mean, (n_tasks, 1)))
        deviation = float(((W - W.mean(0)) ** 2).sum())
        penalty = alpha / 2 * deviation + self.ridge * n_tasks / 2 * float((W.mean(0) ** 2).sum())
        return Solution(W[None], problem.loss(W) + penalty)
