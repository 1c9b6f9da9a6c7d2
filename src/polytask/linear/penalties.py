"""Norms of a coefficient matrix, each with its proximal map and its dual norm.

A row of the matrix is a task, a column a feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from polytask.linear.rows import Array

__all__ = ["Entries", "Features", "LargestPerFeature", "Penalty", "SingularValues", "Tasks"]


class Penalty(Protocol):
    """A convex function of a matrix [T, D] that is zero at zero."""

    def value(self, W: Array) -> float:
        """The function itself."""

    def prox(self, W: Array, step: float) -> Array:
        """The minimiser of ``step * value(V) + |V - W|^2 / 2`` over ``V``."""

    def gauge(self, Z: Array) -> float:
        """The smallest ``g`` for which ``conjugate(Z / g)`` is finite; for a norm, its dual norm."""

    def conjugate(self, Z: Array) -> float:
        """``max_W <Z, W> - value(W)``, for ``Z`` of gauge one or less."""


@dataclass(frozen=True)
class _Norm:
    """A norm times a strength: its conjugate is zero wherever it is finite."""

    strength: float

    def conjugate(self, Z: Array) -> float:
        return 0.0


@dataclass(frozen=True)
class SingularValues(_Norm):
    """Trace norm: the sum of the singular values; the tasks share few directions."""

    def value(self, W: Array) -> float:
        return self.strength * float(np.linalg.svd(W, compute_uv=False).sum())

    def prox(self, W: Array, step: float) -> Array:
        left, values, right = np.linalg.svd(W, full_matrices=False)
        shrunk: Array = (left * np.maximum(values - step * self.strength, 0.0)) @ right
        return shrunk

    def gauge(self, Z: Array) -> float:
        return float(np.linalg.svd(Z, compute_uv=False)[0]) / self.strength


@dataclass(frozen=True)
class Features(_Norm):
    """The sum over features of the Euclidean norm across tasks; the tasks share few features."""

    def value(self, W: Array) -> float:
        return self.strength * float(np.sqrt((W**2).sum(0)).sum())

    def prox(self, W: Array, step: float) -> Array:
        return W * _shrink_factor(np.sqrt((W**2).sum(0)), step * self.strength)

    def gauge(self, Z: Array) -> float:
        return float(np.sqrt((Z**2).sum(0)).max()) / self.strength


@dataclass(frozen=True)
class Tasks(_Norm):
    """The sum over tasks of the Euclidean norm across features; few tasks differ."""

    def value(self, W: Array) -> float:
        return self.strength * float(np.sqrt((W**2).sum(1)).sum())

    def prox(self, W: Array, step: float) -> Array:
        return W * _shrink_factor(np.sqrt((W**2).sum(1)), step * self.strength)[:, None]

    def gauge(self, Z: Array) -> float:
        return float(np.sqrt((Z**2).sum(1)).max()) / self.strength


@dataclass(frozen=True)
class Entries(_Norm):
    """The sum of absolute values; few single coefficients differ."""

    def value(self, W: Array) -> float:
        return self.strength * float(np.abs(W).sum())

    def prox(self, W: Array, step: float) -> Array:
        shrunk: Array = np.sign(W) * np.maximum(np.abs(W) - step * self.strength, 0.0)
        return shrunk

    def gauge(self, Z: Array) -> float:
        return float(np.abs(Z).max()) / self.strength


@dataclass(frozen=True)
class LargestPerFeature(_Norm):
    """The sum over features of the largest absolute value among tasks; a feature is free once one task uses it."""

    def value(self, W: Array) -> float:
        return self.strength * float(np.abs(W).max(0).sum())

    def prox(self, W: Array, step: float) -> Array:
        # Moreau: what remains after projecting each column on the l1 ball of this radius.
        radius = step * self.strength
        size = np.abs(W)
        falling = -np.sort(-size, axis=0)
        cut = (np.cumsum(falling, axis=0) - radius) / np.arange(1, len(W) + 1)[:, None]
        last = np.maximum((falling > cut).sum(0), 1) - 1
        level = np.maximum(cut[last, np.arange(W.shape[1])], 0.0)
        capped: Array = np.sign(W) * np.minimum(size, level)
        return capped

    def gauge(self, Z: Array) -> float:
        return float(np.abs(Z).sum(0).max()) / self.strength


def _shrink_factor(norm: Array, threshold: float) -> Array:
    return 1.0 - threshold / np.maximum(norm, threshold) if threshold > 0 else np.ones_like(norm)
