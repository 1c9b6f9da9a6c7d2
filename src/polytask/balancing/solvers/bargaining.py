"""Bargaining between tasks: the weights at which each task's gain is a power of its weight."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from polytask.balancing.solvers.gramian import Floats, ScaledGramian, Solution
from polytask.balancing.solvers.simplex import min_norm

__all__ = ["bargain", "bargain_slope"]

_LIMIT = 1e8
_ITERATIONS = 100
_UNBOUNDED = "some mixture of the gradients is zero, so that there is no solution"
_RANGE = "powers of the gradients' lengths are beyond the range of the numbers"
_OPEN = "Newton's method did not converge"


def bargain(gramian: Floats, exponent: float = 1.0) -> Solution:
    r"""Positive weights with :math:`(G w)_i = w_i^{-p}` for every task.

    They are the only minimum of the convex potential

    .. math:: \tfrac12 w^\top G w - \sum_i \phi(w_i), \qquad
       \phi(w) = \log w \ \ (p = 1), \quad \phi(w) = \frac{w^{1-p}}{1-p} \ \ (p \ne 1),

    found by a damped Newton method on the cosines: with :math:`G = S C S` and :math:`u = S w` the conditions
    become :math:`(C u)_i = k_i u_i^{-p}` with :math:`k_i = S_i^{p-1}`.

    Args:
        gramian: Symmetric, finite, ``T x T``.
        exponent: :math:`p`; 1 is the Nash bargaining solution, :math:`1/\alpha` the :math:`\alpha`-fair one.

    Example:
        >>> bargain(np.diag([4.0, 1.0])).weights
        array([0.5, 1. ])

    Note:
        A task with a zero gradient has nothing to bargain for and gets weight 0. If the convex hull of the gradients
        contains the origin the potential has no minimum (the weights grow without bound while the direction shrinks):
        then the min-norm weights are returned, whose direction is the zero that the bargain tends to, and the
        solution says so. It also does where the solver stops short of an answer, e.g. with a large :math:`p` and
        gradients whose lengths differ by many orders of magnitude.
    """
    scaled = ScaledGramian(gramian)
    weights = np.zeros(len(gramian))
    present = np.flatnonzero(scaled.present)
    if len(present) == 0:
        return Solution(weights)
    norms = scaled.norms[present]
    cosines = scaled.cosines[np.ix_(present, present)] if len(present) < len(gramian) else scaled.cosines
    # Global scale is divided out first: (s^2 G)(w / s^(2/(1+p))) = (...)^-p, so huge and tiny norms cost no digits.
    unit = np.exp(np.log(norms).mean())
    relative = norms / unit
    if exponent == 1.0 and len(present) == 2 and cosines[0, 1] > -1.0 + 1e-12:  # closed form
        weights[present] = 1.0 / (norms * np.sqrt(1.0 + cosines[0, 1]))
        return Solution(weights)
    with np.errstate(all="ignore"):  # what over- or underflows is looked for below
        u, reason = _newton(cosines, relative ** (exponent - 1.0), exponent)
    if not reason:
        weights[present] = u / relative * unit ** (-2.0 / (1.0 + exponent))
        return Solution(weights)
    return Solution(min_norm(gramian).weights, f"bargaining: {reason}; min-norm weights were used")


def _newton(cosines: Floats, gains: Floats, p: float) -> tuple[Floats, str]:
    """Solve ``(C u)_i = k_i u_i^-p``; second value: why there is no answer, empty if there is one."""
    n = len(gains)
    u = gains ** (1.0 / (1.0 + p))
    square = float(u @ cosines @ u)
    if square > 0.0:  # the best multiple of the start: of all tasks alone to all tasks together
        u = u * (float((gains * u ** (1.0 - p)).sum()) / square) ** (1.0 / (1.0 + p))
    diagonal = np.arange(n)
    product = cosines @ u
    pull = gains * u**-p
    value = _potential(u, product, pull, p)
    best = np.inf
    sizes = np.abs(cosines)
    if not (np.isfinite(value) and np.isfinite(pull).all() and pull.min() > 0.0):
        return u, _RANGE
    for _ in range(_ITERATIONS):
        residual = product - pull
        error = float(np.abs(residual / pull).max())
        rounding = 1e-15 * float((sizes @ u / pull).max())
        if error <= 1e-14 or (error <= max(1e-10, min(rounding, 1e-4)) and error >= 0.5 * best):
            return u, ""
        best = min(best, error)
        if u.max() > _LIMIT * gains.max() ** (1.0 / (1.0 + p)):
            return u, _UNBOUNDED
        hessian = cosines.copy()
        hessian[diagonal, diagonal] += p * pull / u
        _, step, failed = lapack.dposv(hessian, -residual, overwrite_a=1)
        if failed:
            return u, _UNBOUNDED
        if not np.isfinite(step).all():
            return u, _RANGE
        relative = step / u
        if np.abs(relative).max() <= 1e-13:  # the residual of gains far below the largest is rounding
            return u, ""
        descent = float(residual @ step)
        shrink = float(relative.min())
        size = 1.0 if shrink > -0.95 else -0.95 / shrink
        while True:
            trial = u + size * step
            product_t = cosines @ trial
            pull_t = gains * trial**-p
            value_t = _potential(trial, product_t, pull_t, p)
            if value_t <= value + 1e-4 * size * descent or error < 1e-6:
                break
            size *= 0.5
            if size < 1e-12:
                return u, "" if error <= 1e-8 else _OPEN
        u, product, pull, value = trial, product_t, pull_t, value_t
    return u, "" if best <= 1e-8 else _OPEN


def _potential(u: Floats, product: Floats, pull: Floats, p: float) -> float:
    # For p = 1 the pulls are k / u with all k = 1, so that log u is the potential.
    barrier = np.log(u).sum() if p == 1.0 else (pull * u).sum() / (1.0 - p)
    return float(0.5 * (u @ product) - barrier)


def bargain_slope(weights: Floats, product: Floats, exponent: float) -> Floats:
    """How far each gain is from what its weight asks for, relative; zero at the bargain, whatever its scale.

    Args:
        weights: Positive weights.
        product: The Gramian times them.
        exponent: :math:`p`.

    Example:
        >>> bargain_slope(np.array([1.0, 1.0]), np.array([4.0, 1.0]), 1.0)
        array([ 0.6, -0.6])
    """
    square = float(weights @ product)
    if square <= 0.0:
        return np.zeros_like(weights)
    # the best multiple of the weights solves the equations on average, so that only their ratios are judged
    slope: Floats = product * weights**exponent * (float((weights ** (1.0 - exponent)).sum()) / square) - 1.0
    return slope
