"""The direction near the average gradient that is best for the task that gains least."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from polytask.balancing.solvers.cone import project_one
from polytask.balancing.solvers.gramian import Floats, ScaledGramian, Solution
from polytask.balancing.solvers.simplex import min_norm

__all__ = ["conflict_averse"]

_ITERATIONS = 100
_ZERO = 1e-6  # a mixture of float32 gradients that is shorter than this, relative to them, cannot be told from zero


def conflict_averse(gramian: Floats, radius: float) -> Solution:
    r"""Weights of the direction near the average gradient that is best for the task that gains least.

    .. math:: \max_d \min_i \; g_i^\top d \quad \text{with} \quad \lVert d - g_0 \rVert \le c \lVert g_0 \rVert

    The dual is :math:`\min_{w \in \Delta} g_w^\top g_0 + \kappa \lVert g_w \rVert` with
    :math:`\kappa = c \lVert g_0 \rVert`. Since
    :math:`\kappa \lVert g_w \rVert = \min_{s>0} \tfrac{1}{2s} \lVert g_w \rVert^2 + \tfrac{s}{2} \kappa^2`, it is,
    for a given :math:`s`, the shortest vector in the hull of the shifted gradients :math:`g_i + s g_0`, and one
    convex search over :math:`s` remains, whose root is :math:`\lVert g_w \rVert = \kappa s`. On a given support that
    root is the closed form of a quadratic equation, so that the search ends after as many rounds as the support
    changes.

    Args:
        gramian: Symmetric, finite, ``T x T``.
        radius: :math:`c`, positive.

    Example:
        >>> conflict_averse(np.eye(2), 0.5).weights
        array([0.75, 0.75])

    Note:
        Where the least gain that can be had is zero (:math:`g_w = 0`, the hull contains the origin) many directions
        have it; the one nearest to the average gradient is taken, its projection on the cone of directions that hurt
        no task. The authors divide by the length of :math:`g_w` there, which leaves the direction to rounding.
    """
    n = len(gramian)
    average = np.full(n, 1.0 / n)
    scale = float(gramian.diagonal().max())
    if scale <= 0.0 or n == 1:
        return Solution(average * (1.0 + radius) if scale > 0.0 else average)
    g = gramian / scale
    b = g @ average
    kappa = radius * float(np.sqrt(max(average @ b, 0.0)))
    if kappa <= 1e-15:  # the average gradient is zero: nothing to stay near to
        return Solution(average)
    scaled = ScaledGramian(g)
    factor = scaled.factor * scaled.norms
    centre = factor @ average
    low, high = 0.0, np.inf
    s, zero = 1.0 / radius, _ZERO
    if not scaled.present.all():  # the search would halve s for ever: shares of a zero gradient shorten any mixture
        nearest = _nearest(g, average, kappa)
        if nearest is not None:
            return nearest
        zero = 0.0
    for _ in range(_ITERATIONS):
        w = _shortest(factor + s * centre[:, None], g, b, s, kappa / radius)
        length = float(np.linalg.norm(factor @ w))
        if abs(length - kappa * s) <= 1e-12 * (length + kappa * s) or (
            np.isfinite(high) and high - low <= 1e-15 * high
        ):
            return Solution(average + w / s)
        if length <= zero * float(scaled.norms @ w):
            nearest = _nearest(g, average, kappa)
            if nearest is not None:
                return nearest
            zero = 0.0  # out of reach: some task has to lose, so the shortest vector is short but not zero
        low, high = (s, high) if length > kappa * s else (low, s)
        s = _on_support(g, b, kappa, w > 0.0)
        if not low < s < high:
            s = 2.0 * low if not np.isfinite(high) else 0.5 * (low + high)
    return Solution(average, "conflict-averse: the search did not end; the average gradient was used")


def _nearest(g: Floats, average: Floats, kappa: float) -> Solution | None:
    """The direction nearest to the average gradient that hurts no task; ``None`` if it is out of reach."""
    nearest = project_one(g, average)
    away = nearest.weights - average
    return nearest if np.sqrt(max(float(away @ g @ away), 0.0)) <= (1.0 + 1e-9) * kappa else None


def _shortest(shifted: Floats, g: Floats, b: Floats, s: float, norm: float) -> Floats:
    """Weights of the shortest vector in the hull of the shifted gradients."""
    n = shifted.shape[1]
    # A weight on the sum of the order of the data keeps the least-squares problem well scaled for any shift.
    unit = float(np.sqrt(np.square(shifted).sum(axis=0).max()))
    try:
        u, _ = nnls(np.vstack([shifted / unit, np.ones(n)]), np.append(np.zeros(n), 1.0))
    except RuntimeError:
        u = np.zeros(n)
    total = float(u.sum())
    if total > 0.0:
        return u / total
    return min_norm(g + s * (b[:, None] + b) + s * s * norm * norm).weights


def _on_support(g: Floats, b: Floats, kappa: float, support: np.ndarray) -> float:
    """The root of the search if the support were this one; NaN if it has none."""
    chosen = np.flatnonzero(support)
    try:
        p, r = np.linalg.solve(g[np.ix_(chosen, chosen)], np.stack([np.ones(len(chosen)), b[chosen]], axis=1)).T
    except np.linalg.LinAlgError:
        return float("nan")
    inner = float(r.sum()) ** 2 - float(p.sum()) * (float(b[chosen] @ r) - kappa * kappa)
    return 1.0 / float(np.sqrt(inner)) if inner > 0.0 else float("nan")
