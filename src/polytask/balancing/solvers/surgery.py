"""Gradient surgery done on the Gramian: which mixture of the tasks each changed gradient is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polytask.balancing.solvers.gramian import Floats, ScaledGramian

__all__ = ["orders", "project_conflicts", "vaccinate"]


def orders(generator: np.random.Generator, n_tasks: int) -> NDArray[np.intp]:
    """For each task, the other tasks in an order of its own; ``T x (T - 1)``."""
    keys = generator.random((n_tasks, n_tasks))
    np.fill_diagonal(keys, np.inf)
    return np.argsort(keys, axis=1)[:, :-1]


def project_conflicts(gramian: Floats, order: NDArray[np.intp]) -> Floats:
    """PCGrad's projections: row ``i`` holds the weights of the original gradients in the projected gradient ``i``.

    All tasks take their first other task at once, then their second, and so on: a task's projections do not depend on
    those of another task.

    Args:
        gramian: Symmetric, finite, ``T x T``.
        order: For each task the others, in the order in which to look at them.

    Example:
        >>> project_conflicts(np.array([[1.0, -1.0], [-1.0, 4.0]]), np.array([[1], [0]]))
        array([[1.  , 0.25],
               [1.  , 1.  ]])
    """
    n = len(gramian)
    scaled = ScaledGramian(gramian)
    cosines = scaled.cosines
    mixture = np.eye(n)  # in units of the tasks' own norms: row i is g_i / |g_i|
    products = cosines.copy()
    rows = np.arange(n)
    for other in order.T:
        overlap = np.minimum(products[rows, other], 0.0)
        if overlap.any():
            mixture[rows, other] -= overlap
            products -= overlap[:, None] * cosines[other]
    return _rescale(mixture, scaled.norms)


def vaccinate(gramian: Floats, order: NDArray[np.intp], usual: Floats, beta: float) -> Floats:
    """GradVac's turns: row ``i`` holds the weights of the original gradients in the turned gradient ``i``.

    Args:
        gramian: Symmetric, finite, ``T x T``.
        order: For each task the others, in the order in which to look at them.
        usual: The usual cosines, updated in place.
        beta: How fast they follow.

    Example:
        >>> vaccinate(np.array([[1.0, -1.0], [-1.0, 4.0]]), np.array([[1], [0]]), np.zeros((2, 2)), 0.01)
        array([[1.  , 0.25],
               [1.  , 1.  ]])
    """
    n = len(gramian)
    scaled = ScaledGramian(gramian)
    cosines = scaled.cosines
    present = scaled.present
    mixture = np.eye(n)
    products = cosines.copy()
    square = present.astype(np.float64)
    rows = np.arange(n)
    for other in order.T:
        overlap = products[rows, other]
        norm = np.sqrt(np.maximum(square, 0.0))
        cosine = np.clip(np.divide(overlap, norm, out=np.zeros(n), where=norm > 0.0), -1.0, 1.0)
        target = usual[rows, other]
        side = np.sqrt(np.maximum(1.0 - target * target, 0.0))
        sound = present & present[other] & (norm > 0.0)
        turn = sound & (cosine < target) & (side > 0.0)
        step = np.zeros(n)
        wanted = norm * (target * np.sqrt(1.0 - cosine * cosine) - cosine * side)
        np.divide(wanted, side, out=step, where=turn)
        mixture[rows, other] += step
        square += 2.0 * step * overlap + step * step
        products += step[:, None] * cosines[other]
        usual[rows, other] = np.where(sound, (1.0 - beta) * target + beta * cosine, target)
    return _rescale(mixture, scaled.norms)


def _rescale(mixture: Floats, norms: Floats) -> Floats:
    """From weights between unit gradients to weights between the gradients themselves."""
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0.0)
    rescaled = mixture * (norms[:, None] * inverse)
    np.fill_diagonal(rescaled, mixture.diagonal())
    return rescaled
