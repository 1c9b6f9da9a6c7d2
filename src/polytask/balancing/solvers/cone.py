"""Projections on the cone of directions that no task opposes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from polytask.balancing.solvers.gramian import Floats, ScaledGramian, Solution

__all__ = ["Projections", "project_all", "project_one"]

_TOLERANCE = 1e-11
_ROUNDS = 10
_FULL_EXCHANGES = 3


class Projections(NamedTuple):
    """Projections of every task's gradient.

    Attributes:
        weights: Row ``i`` holds the weights of the gradients that make the projection of gradient ``i``.
        active: Row ``i`` says which tasks lent more than their own weight; a warm start for the next step.
        reason: Empty when all are exact; else what was done instead.
    """

    weights: Floats
    active: NDArray[np.bool_]
    reason: str = ""


def project_one(gramian: Floats, preference: Floats) -> Solution:
    r"""Project the gradient that ``preference`` weighs on the cone :math:`\{d : J d \ge 0\}`.

    .. math:: \min_{v \ge u} \; v^\top G v

    Args:
        gramian: Symmetric, finite, ``T x T``.
        preference: Non-negative :math:`u`; the gradient that is projected is :math:`J^\top u`.

    Example:
        >>> project_one(np.array([[1.0, -0.5], [-0.5, 1.0]]), np.array([1.0, 0.0])).weights
        array([1. , 0.5])
    """
    scaled = ScaledGramian(gramian)
    norms = scaled.norms
    largest = norms.max(initial=0.0)
    if largest == 0.0:
        return Solution(preference.copy())
    start = preference * (norms / largest)
    extra, ok = _nonnegative(scaled.factor, scaled.factor @ start)
    inverse = np.divide(largest, norms, out=np.zeros_like(norms), where=scaled.present)
    reason = "" if ok else "cone projection: iteration limit; the gradient was used unprojected"
    return Solution(preference + extra * inverse, reason)


def project_all(gramian: Floats, warm: NDArray[np.bool_] | None = None) -> Projections:
    r"""Project every task's gradient on the cone that no task opposes.

    Row ``i`` solves :math:`\min_{v \ge e_i} v^\top G v`. All rows run at once through block principal pivoting
    (Kim and Park 2011): guess for each which bounds bind, solve the linear systems in one batch, exchange what is
    wrong. Rows for which the exchange does not settle, which needs a degenerate Gramian, go through Lawson and Hanson's
    active set one at a time, which is exact as well.

    Args:
        gramian: Symmetric, finite, ``T x T``.
        warm: The ``active`` of a step before; it changes the time, not the answer.

    Example:
        >>> project_all(np.array([[1.0, -0.5], [-0.5, 1.0]])).weights
        array([[1. , 0.5],
               [0.5, 1. ]])
    """
    scaled = ScaledGramian(gramian)
    n = len(gramian)
    cosines = scaled.cosines
    extra = np.zeros((n, n))
    active = np.zeros((n, n), dtype=bool)
    guess = cosines < 0.0 if warm is None else warm & scaled.present
    np.fill_diagonal(guess, False)
    open_rows = _pivot(cosines, guess, extra, active)
    reason = ""
    for i in open_rows:
        extra[i], ok = _nonnegative(scaled.factor, scaled.factor[:, i])
        active[i] = extra[i] > 0.0
        reason = reason if ok else "cone projection: iteration limit; a gradient was used unprojected"
    inverse = np.divide(1.0, scaled.norms, out=np.zeros(n), where=scaled.present)
    with np.errstate(over="ignore"):
        weights = np.eye(n) + extra * (scaled.norms[:, None] * inverse)
    return Projections(weights, active, reason)


def _pivot(cosines: Floats, guess: NDArray[np.bool_], extra: Floats, active: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Fill ``extra`` and ``active`` row by row as rows settle; return the rows that did not."""
    n = len(cosines)
    rows = np.arange(n)
    least = np.full(n, n + 1)
    patience = np.full(n, _FULL_EXCHANGES)
    diagonal = np.arange(n)
    passive = guess.copy()
    for _ in range(_ROUNDS):
        systems = cosines * (passive[:, :, None] & passive[:, None, :])
        systems[:, diagonal, diagonal] += ~passive
        try:
            z = np.linalg.solve(systems, np.where(passive, -cosines[rows], 0.0)[..., None])[..., 0]
        except np.linalg.LinAlgError:
            return rows
        slack = z @ cosines + cosines[rows]
        tolerance = _TOLERANCE * (1.0 + np.abs(z).max(axis=1, keepdims=True))
        wrong = np.where(passive, z < -tolerance, slack < -tolerance)
        count = wrong.sum(axis=1)
        # A nearly singular system answers with huge numbers whose slack on the passive set is not zero.
        sound = np.abs(np.where(passive, slack, 0.0)).max(axis=1, initial=0.0) <= 1e-9
        done = (count == 0) & sound
        if done.any():
            extra[rows[done]] = np.maximum(z[done], 0.0)
            active[rows[done]] = passive[done]
            keep = ~done
            rows, passive, wrong, count = rows[keep], passive[keep], wrong[keep], count[keep]
            least, patience = least[keep], patience[keep]
            if len(rows) == 0:
                break
        better = count < least
        least = np.where(better, count, least)
        patience = np.where(better, _FULL_EXCHANGES, patience - 1)
        single = patience < 0
        if single.any():  # Murty's rule: exchange only the last wrong one, which cannot cycle
            last = n - 1 - wrong[single][:, ::-1].argmax(axis=1)
            wrong[single] = (diagonal == last[:, None]) & wrong[single]
        passive = passive ^ wrong
    return rows


def _nonnegative(factor: Floats, target: Floats) -> tuple[Floats, bool]:
    """``argmin_{z >= 0} |factor z + target|``; second value: whether it converged."""
    try:
        return nnls(factor, -target)[0], True
    except RuntimeError:
        return np.zeros(factor.shape[1]), False
