"""Accelerated proximal gradient on the Gram matrices, stopped by a duality gap."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from polytask.linear.model import LinearModel, Solution, warn_unfinished
from polytask.linear.moments import Intercept, Problem, Scale
from polytask.linear.penalties import Penalty
from polytask.linear.rows import Array

__all__ = ["ProximalModel", "TwoParts", "minimise"]

_CHECK_EVERY = 10


class ProximalModel(LinearModel):
    """A model whose coefficients are a sum of parts, each with a penalty that has a proximal map.

    A subclass states its penalties, one per part.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        intercept: Intercept = "own",
        scale: Scale = "none",
        tol: float = 1e-6,
        max_iter: int = 5000,
    ):
        self.alpha = alpha
        self.intercept = intercept
        self.scale = scale
        self.tol = tol
        self.max_iter = max_iter

    @abstractmethod
    def penalties(self, alpha: float, shape: tuple[int, int]) -> tuple[Penalty, ...]:
        """The penalty of each part for coefficients of this shape."""

    def check_settings(self) -> None:
        """Raise if a setting is out of its range."""
        super().check_settings()
        self._require("alpha", lambda alpha: alpha > 0, "above zero (Independent is the model that does not share)")
        self._require("tol", lambda tol: tol > 0, "above zero")
        self._require("max_iter", lambda most: most >= 1, "one or more")

    def solve(self, problem: Problem, alpha: float, start: Array | None = None) -> Solution:
        """Minimise; warns with scikit-learn's ``ConvergenceWarning`` if the gap stays too large."""
        solution = minimise(problem, self.penalties(alpha, problem.shape), start, self.tol, self.max_iter)
        warn_unfinished(self, solution, self.tol, self.max_iter)
        return solution

    def largest_alpha(self, problem: Problem) -> float:
        """The smallest strength at which all coefficients are zero."""
        return max(penalty.gauge(problem.cross) for penalty in self.penalties(1.0, problem.shape))


class TwoParts(ProximalModel):
    """Coefficients that are the sum of two parts, the second with ``ratio`` times the strength of the first."""

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        ratio: float = 0.5,
        intercept: Intercept = "own",
        scale: Scale = "none",
        tol: float = 1e-6,
        max_iter: int = 5000,
    ):
        super().__init__(alpha, intercept=intercept, scale=scale, tol=tol, max_iter=max_iter)
        self.ratio = ratio

    def check_settings(self) -> None:
        """Raise if a setting is out of its range."""
        super().check_settings()
        self._require("ratio", lambda ratio: ratio > 0 and math.isfinite(ratio), "a finite number above zero")


def minimise(
    problem: Problem, penalties: Sequence[Penalty], start: Array | None, tol: float, max_iter: int
) -> Solution:
    """Minimise ``f(sum_k P_k) + sum_k penalty_k(P_k)`` by accelerated proximal gradient with restarts.

    One product with the Gram matrices per iteration, ``O(T D^2)``, because the product of the extrapolated point
    follows from those of the last two points. Stops when the duality gap is at most ``tol`` times the objective.

    References:
        Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", SIAM Journal on Imaging Sciences 2009;
        O'Donoghue and Candès, "Adaptive Restart for Accelerated Gradient Schemes", Foundations of Computational
        Mathematics 2015, gradient scheme.
    """
    parts = np.zeros((len(penalties), *problem.shape)) if start is None else start
    step = 1.0 / (len(penalties) * problem.curvature or 1.0)
    product = problem.apply(parts.sum(0))
    ahead, ahead_product, momentum, best_dual = parts, product, 1.0, -np.inf
    floor = 1e-14 * float(problem.square.sum())
    for iteration in range(max_iter + 1):
        if iteration % _CHECK_EVERY == 0 or iteration == max_iter:
            objective, dual = _bounds(problem, penalties, parts, product)
            best_dual = max(best_dual, dual)
            if objective - best_dual <= max(tol * objective, floor):
                break
        gradient = ahead_product - problem.cross
        moved = np.stack([p.prox(point - step * gradient, step) for p, point in zip(penalties, ahead, strict=True)])
        moved_product = problem.apply(moved.sum(0))
        if np.vdot(ahead - moved, moved - parts) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        push = (momentum - 1) / following
        ahead, ahead_product = moved + push * (moved - parts), moved_product + push * (moved_product - product)
        parts, product, momentum = moved, moved_product, following
    return Solution(parts, objective, max(objective - best_dual, 0.0), max(iteration, 1))


def _bounds(problem: Problem, penalties: Sequence[Penalty], parts: Array, product: Array) -> tuple[float, float]:
    """Objective at ``parts``, and a lower bound on the optimum.

    The bound is the dual value at the residuals, scaled into the domain; both follow from the sufficient statistics.
    """
    W = parts.sum(0)
    total, explained = float(problem.square.sum()), float(np.vdot(problem.cross, W))
    residual = max(total - 2 * explained + float(np.vdot(product, W)), 0.0)
    objective = 0.5 * residual + sum(p.value(part) for p, part in zip(penalties, parts, strict=True))
    correlation = problem.cross - product
    gauge = max(p.gauge(correlation) for p in penalties)
    scale = 1.0 if gauge <= 1 else 1.0 / gauge
    dual = (
        scale * (total - explained) - scale**2 / 2 * residual - sum(p.conjugate(scale * correlation) for p in penalties)
    )
    return objective, dual
