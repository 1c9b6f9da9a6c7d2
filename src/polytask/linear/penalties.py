"""Norms of a coefficient matrix, each with its proximal map and its dual norm.

A row of the matrix is a task, a column a feature.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from polytask.linear.rows import Array

__all__ = [
    "Entries",
    "Features",
    "LargestPerFeature",
    "Penalty",
    "SingularValues",
    "Tasks",
    "map_singular_values",
    "singular_values",
]


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
class _Norm(ABC):
    """A norm times a strength: its conjugate is zero wherever it is finite."""

    strength: float

    def value(self, W: Array) -> float:
        """The norm times the strength."""
        return self.strength * self._norm(W)

    def prox(self, W: Array, step: float) -> Array:
        """The matrix shrunk in this norm."""
        return self._shrink(W, step * self.strength)

    def gauge(self, Z: Array) -> float:
        """The dual norm divided by the strength."""
        return self._dual_norm(Z) / self.strength

    def conjugate(self, Z: Array) -> float:
        """Zero."""
        return 0.0

    @abstractmethod
    def _norm(self, W: Array) -> float: ...

    @abstractmethod
    def _dual_norm(self, Z: Array) -> float: ...

    @abstractmethod
    def _shrink(self, W: Array, threshold: float) -> Array: ...


class SingularValues(_Norm):
    """Trace norm: the sum of the singular values; the tasks share few directions."""

    def _norm(self, W: Array) -> float:
        return float(np.sum(singular_values(W)))

    def _dual_norm(self, Z: Array) -> float:
        return float(np.max(singular_values(Z)))

    def _shrink(self, W: Array, threshold: float) -> Array:
        return map_singular_values(W, lambda values: _kept(values, threshold), threshold)


class Features(_Norm):
    """The sum over features of the Euclidean norm across tasks; the tasks share few features."""

    def _norm(self, W: Array) -> float:
        return float(np.sum(_lengths(W)))

    def _dual_norm(self, Z: Array) -> float:
        return float(np.max(_lengths(Z)))

    def _shrink(self, W: Array, threshold: float) -> Array:
        return W * _kept(_lengths(W), threshold)


class Tasks(_Norm):
    """The sum over tasks of the Euclidean norm across features; few tasks differ."""

    def _norm(self, W: Array) -> float:
        return float(np.sum(_lengths(W.T)))

    def _dual_norm(self, Z: Array) -> float:
        return float(np.max(_lengths(Z.T)))

    def _shrink(self, W: Array, threshold: float) -> Array:
        return W * _kept(_lengths(W.T), threshold)[:, None]


class Entries(_Norm):
    """The sum of absolute values; few single coefficients differ."""

    def _norm(self, W: Array) -> float:
        return float(np.sum(np.abs(W)))

    def _dual_norm(self, Z: Array) -> float:
        return float(np.max(np.abs(Z)))

    def _shrink(self, W: Array, threshold: float) -> Array:
        return W * _kept(np.abs(W), threshold)


class LargestPerFeature(_Norm):
    """The sum over features of the largest absolute value among tasks; a feature is free once one task uses it."""

    def _norm(self, W: Array) -> float:
        return float(np.sum(np.max(np.abs(W), axis=0)))

    def _dual_norm(self, Z: Array) -> float:
        return float(np.max(np.sum(np.abs(Z), axis=0)))

    def _shrink(self, W: Array, threshold: float) -> Array:
        # Moreau: what remains after projecting each column on the l1 ball whose radius is the threshold.
        size = np.abs(W)
        falling = -np.sort(-size, axis=0)
        cut = (np.cumsum(falling, axis=0) - threshold) / np.arange(1, len(W) + 1)[:, None]
        last = np.maximum((falling > cut).sum(0), 1) - 1
        level = np.maximum(cut[last, np.arange(W.shape[1])], 0.0)
        capped: Array = np.sign(W) * np.minimum(size, level)
        return capped


def singular_values(W: Array) -> Array:
    """Singular values, falling."""
    return np.asarray(np.linalg.svd(W, compute_uv=False), dtype=np.float64)


def map_singular_values(W: Array, factor: Callable[[Array], Array], resolution: float) -> Array:
    """Multiply each singular value by a factor that depends on all of them.

    The eigenvectors of the smaller of ``W'W`` and ``WW'`` serve, at half the cost of a singular value decomposition
    or less, unless differences of the size of ``resolution`` drown in the rounding of the squares.
    """
    tall = W if W.shape[0] >= W.shape[1] else W.T
    squares, right = np.linalg.eigh(tall.T @ tall)
    if resolution > 1e-5 * np.sqrt(max(squares[-1], 0.0)):
        mapped = (tall @ (right * factor(np.sqrt(np.maximum(squares, 0.0))))) @ right.T
    else:
        left, values, right = np.linalg.svd(tall, full_matrices=False)
        mapped = (left * (values * factor(values))) @ right
    result: Array = mapped if tall is W else mapped.T
    return result


def _lengths(W: Array) -> Array:
    """Euclidean norms of the columns."""
    return np.asarray(np.sqrt(np.einsum("td,td->d", W, W)), dtype=np.float64)


def _kept(size: Array, threshold: float) -> Array:
    """The share of each size that is left when ``threshold`` is taken away."""
    return np.asarray(1.0 - threshold / np.maximum(size, threshold), dtype=np.float64)
