"""The direction that has the same angle with every gradient."""

from __future__ import annotations

import numpy as np

from polytask.balancing.solvers.gramian import Floats, ScaledGramian

__all__ = ["equiangular"]

_RANK = 1e-12


def equiangular(scaled: ScaledGramian, wanted: Floats) -> Floats:
    """Weights ``y`` of the unit gradients with ``C y = wanted``, of least norm, least squares where there is none.

    Args:
        scaled: The Gramian, with :math:`C` its cosines.
        wanted: Wanted products with the unit gradients, up to scale.

    Example:
        >>> equiangular(ScaledGramian(np.array([[4.0, 0.0], [0.0, 1.0]])), np.ones(2))
        array([1., 1.])

    Note:
        Directions whose eigenvalue is below 1e-12 of the largest are left out, as is a task with a zero gradient, and
        what of ``wanted`` lies along the others by rounding only: zero, not noise, where no direction comes nearer.
    """
    values, vectors = np.linalg.eigh(scaled.cosines)
    kept = values > _RANK * max(float(values[-1]), 0.0)
    basis = vectors[:, kept]
    asked = np.where(scaled.present, wanted, 0.0)
    along = basis.T @ asked
    along[np.abs(along) <= _RANK * np.linalg.norm(asked)] = 0.0
    answer: Floats = basis @ (along / values[kept])
    return answer
