"""The shortest vector in the convex hull of the gradients, and the projection on the simplex."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from polytask.balancing.solvers.gramian import Floats, ScaledGramian, Solution

__all__ = ["frank_wolfe", "min_norm", "project_on_simplex", "shares"]

_GAP = 1e-9
_FLOOR = 1e-14
_SINGLE = 1e-6  # a Gramian of float32 gradients is known, and positive semi-definite, no better than this


def min_norm(gramian: Floats) -> Solution:
    r"""Weights of the shortest vector in the convex hull of the gradients.

    .. math:: \min_{w \ge 0,\ 1^\top w = 1} \; w^\top G w

    One and two tasks have a closed form. From three on, with :math:`R^\top R = G`, the weights are those of
    :math:`\min_{u \ge 0} \lVert R u \rVert^2 + (1^\top u - 1)^2`, divided by their sum: the optimality
    conditions are the same, and that problem is one of non-negative least squares (Lawson and Hanson 1974, ch. 23).

    Args:
        gramian: Symmetric, finite, ``T x T``.

    Example:
        >>> min_norm(np.diag([1.0, 3.0])).weights
        array([0.75, 0.25])

    Note:
        Tasks with a zero gradient share the whole weight evenly: the shortest vector is zero. The answer is certified
        by its duality gap :math:`w^\top G w - \min_i (G w)_i`; where the active set misses it (a degenerate Gramian),
        pairwise Frank-Wolfe goes on from there, and what still misses it says so.
    """
    scaled = ScaledGramian(gramian)
    n = len(gramian)
    if not scaled.present.all():
        missing = ~scaled.present
        return Solution(missing / missing.sum())
    if n == 1:
        return Solution(np.ones(1))
    if n == 2:
        return Solution(_two(scaled))
    smallest = scaled.norms.min()
    inverse = smallest / scaled.norms  # the constraint's row in the units of unit gradients, at most 1
    try:
        u, _ = nnls(np.vstack([scaled.factor, inverse]), np.append(np.zeros(n), 1.0))
    except RuntimeError:  # iteration limit: Frank-Wolfe takes over from the middle
        u = np.ones(n)
    weights = u * inverse
    total = weights.sum()
    weights = weights / total if total > 0.0 else np.full(n, 1.0 / n)
    if _gap(gramian, weights) <= _tolerance(gramian, weights):
        return Solution(weights)
    weights = frank_wolfe(gramian, weights)
    if _gap(gramian, weights) <= max(1e3 * _tolerance(gramian, weights), _SINGLE * _size(gramian, weights)):
        return Solution(weights)
    return Solution(weights, "min-norm: the solver did not converge; the best point found was used")


def _two(scaled: ScaledGramian) -> Floats:
    """Closed form for two gradients (Sener and Koltun 2018, algorithm 1)."""
    ratio = scaled.norms / scaled.norms.max()
    g11, g22 = ratio * ratio
    g12 = scaled.cosines[0, 1] * ratio[0] * ratio[1]
    if g12 >= g11:
        return np.array([1.0, 0.0]) if g11 != g22 else np.array([0.5, 0.5])
    if g12 >= g22:
        return np.array([0.0, 1.0])
    first = (g22 - g12) / (g11 + g22 - 2.0 * g12)
    return np.array([first, 1.0 - first])


def _gap(gramian: Floats, weights: Floats) -> float:
    product = gramian @ weights
    return float(weights @ product - product.min())


def _tolerance(gramian: Floats, weights: Floats) -> float:
    # The rounding of the products that the gap is made of: relative to the weighted norms, not to the largest task.
    return max(_GAP * float(weights @ gramian @ weights), _FLOOR * len(weights) * _size(gramian, weights))


def _size(gramian: Floats, weights: Floats) -> float:
    return float(np.sqrt(np.maximum(gramian.diagonal(), 0.0)) @ weights) ** 2


def frank_wolfe(gramian: Floats, start: Floats, iterations: int = 2000) -> Floats:
    """Pairwise Frank-Wolfe with exact line search on the same problem, for Gramians the active set cannot handle.

    Args:
        gramian: Symmetric, finite, ``T x T``.
        start: A point of the simplex.
        iterations: Most steps to do.

    Example:
        >>> frank_wolfe(np.diag([1.0, 3.0]), np.array([0.5, 0.5]))
        array([0.75, 0.25])
    """
    weights = start.copy()
    product = gramian @ weights
    for _ in range(iterations):
        towards = int(product.argmin())
        away = int(np.where(weights > 0.0, product, -np.inf).argmax())
        drop = product[away] - product[towards]
        curvature = gramian[away, away] + gramian[towards, towards] - 2.0 * gramian[away, towards]
        if drop <= _FLOOR * max(abs(product[away]), abs(product[towards])):
            break
        step = weights[away] if curvature <= 0.0 else min(weights[away], drop / curvature)
        if step <= 0.0:
            break
        weights[away] = 0.0 if step == weights[away] else weights[away] - step
        weights[towards] += step
        product += step * (gramian[:, towards] - gramian[:, away])
    normal: Floats = weights / weights.sum()
    return normal


def project_on_simplex(point: Floats) -> Floats:
    """Nearest point of the simplex in Euclidean distance (Duchi et al. 2008, figure 1).

    Example:
        >>> project_on_simplex(np.array([0.9, 0.6, -1.0]))
        array([0.65, 0.35, 0.  ])
    """
    point = point - point.max()  # changes nothing but the rounding: the largest is now exact
    ordered = np.sort(point)[::-1]
    excess = np.cumsum(ordered) - 1.0
    last = np.flatnonzero(ordered - excess / np.arange(1, len(point) + 1) > 0.0)[-1]
    projected: Floats = np.maximum(point - excess[last] / (last + 1), 0.0)
    return projected


def shares(held: Floats) -> Floats:
    """What the present tasks hold, divided by its sum: a point of their simplex; equal shares if they hold nothing.

    Example:
        >>> shares(np.array([0.3, 0.1]))
        array([0.75, 0.25])
    """
    total = float(held.sum())
    divided: Floats = held / total if total > 0.0 else np.full(len(held), 1.0 / len(held))
    return divided
