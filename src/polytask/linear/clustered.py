"""Tasks in clusters that need not be known."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from polytask.linear.moments import Intercept, Problem, Scale
from polytask.linear.penalties import Penalty, map_singular_values, singular_values
from polytask.linear.proximal import ProximalModel
from polytask.linear.rows import Array

__all__ = ["ClusterNorm", "Clustered"]


@dataclass(frozen=True)
class ClusterNorm:
    """``strength / 2 * eta (1 + eta) min_M tr(W' (eta I + M)^-1 W)`` over ``0 <= M <= I`` with trace ``n_clusters``.

    ``M`` has the singular vectors of ``W``, so that only its eigenvalues ``m`` are sought; with ``theta = eta + m``
    this is a box norm of the singular values (McDonald, Pontil and Stamos, "New Perspectives on k-Support and Cluster
    Norms", JMLR 2016), and the best ``theta`` is a clipped multiple of them.
    """

    strength: float
    n_clusters: int
    eta: float

    @property
    def _factor(self) -> float:
        return self.strength * self.eta * (1 + self.eta)

    def _theta(self, values: Array, shift: float) -> Array:
        """The minimiser of ``sum values^2 / (theta + shift)``: ``theta = clip(values mu - shift)`` of the right sum."""
        low, high = self.eta, 1 + self.eta
        if self.n_clusters >= len(values) or not values.any():
            return np.full_like(values, high)
        positive = values[values > 1e-12 * values.max()]
        bends = np.sort(np.concatenate([(low + shift) / positive, (high + shift) / positive]))
        sums = np.clip(values * bends[:, None] - shift, low, high).sum(1)
        mu = np.interp(self.n_clusters + len(values) * self.eta, sums, bends)
        theta: Array = np.clip(values * mu - shift, low, high)
        return theta

    def value(self, W: Array) -> float:
        """The function itself."""
        values = singular_values(W)
        return self._factor / 2 * float((values**2 / self._theta(values, 0.0)).sum())

    def prox(self, W: Array, step: float) -> Array:
        """Each singular value is scaled by ``theta / (theta + step)``."""
        shift = step * self._factor

        def factor(values: Array) -> Array:
            theta = self._theta(values, shift)
            scaled: Array = theta / (theta + shift)
            return scaled

        return map_singular_values(W, factor, np.inf)

    def gauge(self, Z: Array) -> float:
        """Zero: the conjugate is finite everywhere."""
        return 0.0

    def conjugate(self, Z: Array) -> float:
        """The largest of a linear function of ``theta``: the first ``n_clusters`` directions at the upper bound."""
        squares = singular_values(Z) ** 2
        return float(self.eta * squares.sum() + squares[: self.n_clusters].sum()) / (2 * self._factor)


class Clustered(ProximalModel):
    r"""Tasks fall into clusters, unknown but for their number, and are drawn to each other within them.

    .. math:: \min_W \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2 + \tfrac{\alpha}{2} \eta (1 + \eta)
        \min_{0 \preceq M \preceq I,\; \operatorname{tr} M = k} \operatorname{tr}\, W^\top (\eta I + M)^{-1} W

    This is the convex relaxation of ``alpha / 2`` times the squared distances of tasks from the centres of their
    clusters plus ``eta |W|^2``: where ``M`` is the projection on cluster memberships, the two agree.

    Args:
        alpha: Strength, above zero.
        n_clusters: Number of clusters ``k``; with as many as tasks or features, a ridge alone is left.
        ratio: Strength ``eta`` of the ridge relative to the pull within clusters.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.
        tol: Largest duality gap, relative to the objective, at which to stop.
        max_iter: Most iterations.

    Raises:
        RecipeError: If ``alpha``, ``ratio`` or ``tol`` is not above zero, or ``n_clusters`` or ``max_iter`` is below
            one.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(80, 4))
        >>> W = np.array([[1.0, 0, 0, 0]] * 3 + [[0, 1.0, 0, 0]] * 3)
        >>> (Clustered(alpha=0.1, ratio=0.01).fit(X, X @ W.T).coef_.round(1)[[0, 5]] + 0.0).tolist()
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]

    Note:
        The paper alternates between ``W`` and ``M``; here ``M`` is minimised out, which leaves a function of the
        singular values with a proximal map in closed form, and accelerated proximal gradient stops on a duality gap.
        The relaxation draws to ``k`` directions through zero, not to the tasks' mean.
        Cost: a product with the Gram matrices, ``O(T D^2)``, and a singular value decomposition of a [T, D] matrix an
        iteration.

    References:
        Zhou, Chen and Ye, "Clustered Multi-Task Learning via Alternating Structure Optimization", NeurIPS 2011;
        Jacob, Bach and Vert, "Clustered Multi-Task Learning: A Convex Formulation", NeurIPS 2008.
    """

    searched: ClassVar[Mapping[str, tuple[float, ...]]] = {"n_clusters": (1, 3), "ratio": (1e-3, 1e-2, 1e-1)}
    path_span = 1e-5

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        n_clusters: int = 2,
        ratio: float = 0.1,
        intercept: Intercept = "own",
        scale: Scale = "none",
        tol: float = 1e-6,
        max_iter: int = 5000,
    ):
        super().__init__(alpha, intercept=intercept, scale=scale, tol=tol, max_iter=max_iter)
        self.n_clusters = n_clusters
        self.ratio = ratio

    def check_settings(self) -> None:
        """Raise if a setting is out of its range."""
        super().check_settings()
        self._require("n_clusters", lambda n: operator.index(n) >= 1, "a whole number, one or more")
        self._require("ratio", lambda ratio: ratio > 0 and math.isfinite(ratio), "a finite number above zero")

    def penalties(self, alpha: float, shape: tuple[int, int]) -> tuple[Penalty, ...]:
        """The relaxed clustering of the whole."""
        return (ClusterNorm(alpha, self.n_clusters, self.ratio),)

    def largest_alpha(self, problem: Problem) -> float:
        """A thousand times the mean eigenvalue, where few directions are left in each cluster's place."""
        return 1e3 * problem.mean_eigenvalue
