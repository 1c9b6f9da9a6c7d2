"""Sufficient statistics: all that squared loss needs to know of the rows, so that no iteration reads a row again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from polytask.linear.rows import Array, TaskRows

__all__ = ["Frame", "Intercept", "Moments", "Problem", "Scale"]

Intercept: TypeAlias = Literal["own", "joint", "none"]
Scale: TypeAlias = Literal["none", "inputs", "both"]


@dataclass(frozen=True)
class Moments:
    """Weighted counts, means and centred second moments of each task.

    Second moments are kept about each task's own means, which loses no digits; moments about another centre follow
    by adding a matrix of rank one. ``G`` is 1 if all tasks have the same rows, else T.

    Shape:
        weight [T]; mean_x [G, D]; mean_y [T]; gram [G, D, D]; cross [T, D]; square [T].
    """

    weight: Array
    mean_x: Array
    mean_y: Array
    gram: Array
    cross: Array
    square: Array

    @classmethod
    def of(cls, rows: TaskRows) -> Moments:
        """One pass over the rows: ``O(N D^2)`` for shared rows, summed over the tasks otherwise."""
        return cls._of_shared(rows) if rows.is_shared else cls._of_each(rows)

    @classmethod
    def _of_shared(cls, rows: TaskRows) -> Moments:
        weight = rows.weights[0]
        keep = weight > 0
        x, w = rows.inputs[0][keep], weight[keep]
        y = np.stack([target[keep] for target in rows.targets])
        total = w.sum()
        mean_x, mean_y = w @ x / total, y @ w / total
        x, y = x - mean_x, y - mean_y[:, None]
        weighted = x * w[:, None]
        return cls(
            weight=np.full(len(y), total),
            mean_x=mean_x[None],
            mean_y=mean_y,
            gram=(weighted.T @ x)[None],
            cross=y @ weighted,
            square=y**2 @ w,
        )

    @classmethod
    def _of_each(cls, rows: TaskRows) -> Moments:
        n_tasks, width = rows.n_tasks, rows.inputs[0].shape[1]
        weight, mean_x, mean_y = np.zeros(n_tasks), np.zeros((n_tasks, width)), np.zeros(n_tasks)
        gram, cross, square = np.zeros((n_tasks, width, width)), np.zeros((n_tasks, width)), np.zeros(n_tasks)
        for task, (x, y, w) in enumerate(rows.observed()):
            if len(y) == 0:
                continue
            weight[task] = w.sum()
            mean_x[task], mean_y[task] = w @ x / weight[task], w @ y / weight[task]
            x, y = x - mean_x[task], y - mean_y[task]
            weighted = x * w[:, None]
            gram[task], cross[task], square[task] = weighted.T @ x, y @ weighted, w @ y**2
        # A fold can leave a task without labels: the best that is known of its means are everyone's.
        empty = weight == 0
        mean_x[empty] = weight @ mean_x / weight.sum()
        mean_y[empty] = weight @ mean_y / weight.sum()
        return cls(weight, mean_x, mean_y, gram, cross, square)

    def squared_error(self, coef: Array, intercept: Array) -> Array:
        """Weighted sum of squared errors of each task under these coefficients, without its rows."""
        about_mean = self.square + ((_apply(self.gram, coef) - 2 * self.cross) * coef).sum(1)
        offset = self.mean_y - (self.mean_x * coef).sum(1) - intercept
        error: Array = np.maximum(about_mean, 0.0) + self.weight * offset**2
        return error


@dataclass(frozen=True)
class Frame:
    """The centres and scales in which a problem is solved, and the way back to the user's units.

    Shape:
        centre_x [G, D]; centre_y [T]; scale_x [D]; scale_y [T].
    """

    centre_x: Array
    centre_y: Array
    scale_x: Array
    scale_y: Array
    intercept: Intercept

    @classmethod
    def of(cls, moments: Moments, intercept: Intercept, scale: Scale) -> Frame:
        """Centres for the kind of intercept, and root mean squares about them for the scales."""
        pooled = moments.weight / moments.weight.sum()
        shared = len(moments.mean_x) == 1
        if intercept == "own":
            centre_x, centre_y = moments.mean_x, moments.mean_y
        elif intercept == "joint":
            centre_x = moments.mean_x if shared else (pooled @ moments.mean_x)[None]
            centre_y = np.full_like(moments.mean_y, pooled @ moments.mean_y)
        else:
            centre_x, centre_y = np.zeros((1, moments.mean_x.shape[1])), np.zeros_like(moments.mean_y)
        scale_x, scale_y = np.ones(moments.mean_x.shape[1]), np.ones_like(moments.mean_y)
        if scale != "none":
            weight = moments.weight[: len(moments.gram)]
            square = np.einsum("tdd->d", moments.gram) + weight @ (moments.mean_x - centre_x) ** 2
            scale_x = _no_zeros(np.sqrt(square / weight.sum()), np.abs(moments.mean_x).max(0))
        if scale == "both":
            # Targets in different units have no common mean: each is standardised before anything is joint.
            centre_y = centre_y if intercept == "none" else moments.mean_y
            mean_square = moments.square / np.maximum(moments.weight, 1e-300) + (moments.mean_y - centre_y) ** 2
            scale_y = _no_zeros(np.sqrt(mean_square), np.abs(moments.mean_y))
        return cls(centre_x, centre_y, scale_x, scale_y, intercept)

    def slopes(self, solution: Array) -> Array:
        """Coefficients [T, D] in the user's units, without the constant feature."""
        width = len(self.scale_x)
        return solution[..., :width] * self.scale_y[:, None] / self.scale_x

    def restore(self, solution: Array) -> tuple[Array, Array]:
        """Coefficients [T, D] and intercepts [T] in the user's units."""
        coef = self.slopes(solution)
        if self.intercept == "none":
            return coef, np.zeros(len(coef))
        constant = solution[:, -1] * self.scale_y if self.intercept == "joint" else 0.0
        return coef, self.centre_y + constant - (self.centre_x * coef).sum(1)


@dataclass(frozen=True)
class Problem:
    r"""Squared loss as a quadratic, in the units in which it is solved.

    ``f(W) = 1/2 sum_t (w_t' G_t w_t - 2 c_t' w_t + s_t)``, which is the sum of squared errors divided by ``2 n``, with
    ``n`` the mean weight of a task's rows. Every row counts alike, and for complete targets on shared rows ``n`` is
    their number, so that strengths mean what they mean in scikit-learn's multi-task lasso.

    Shape:
        gram [G, D, D]; cross [T, D]; square [T]. D counts the constant feature of a joint intercept.
    """

    gram: Array
    cross: Array
    square: Array
    frame: Frame

    @classmethod
    def of(cls, moments: Moments, intercept: Intercept, scale: Scale) -> Problem:
        """The problem for one kind of intercept and scale."""
        frame = Frame.of(moments, intercept, scale)
        scale_x, scale_y = frame.scale_x, frame.scale_y[:, None]
        weight = moments.weight[: len(moments.gram)]
        shift_x, shift_y = moments.mean_x - frame.centre_x, moments.mean_y - frame.centre_y
        moved = weight[:, None] * shift_x
        gram = (moments.gram + moved[:, :, None] * shift_x[:, None, :]) / (scale_x[:, None] * scale_x)
        cross = (moments.cross + shift_y[:, None] * moments.weight[:, None] * shift_x) / (scale_x * scale_y)
        square = (moments.square + moments.weight * shift_y**2) / frame.scale_y**2
        if intercept == "joint":
            moved = moved / scale_x
            gram = np.concatenate([gram, moved[:, None, :]], axis=1)
            column = np.concatenate([moved, weight[:, None]], axis=1)
            gram = np.concatenate([gram, column[:, :, None]], axis=2)
            cross = np.concatenate([cross, (moments.weight * shift_y)[:, None] / scale_y], axis=1)
        rows_per_task = moments.weight.mean()
        return cls(gram / rows_per_task, cross / rows_per_task, square / rows_per_task, frame)

    @property
    def shape(self) -> tuple[int, int]:
        """T and D of the coefficients."""
        n_tasks, width = self.cross.shape
        return n_tasks, width

    @cached_property
    def eigen(self) -> tuple[Array, Array]:
        """Eigenvalues [G, D], none below zero, and eigenvectors [G, D, D] of the Gram matrices."""
        values, vectors = np.linalg.eigh(self.gram)
        values = np.where(values > values[:, -1:] * values.shape[1] * np.finfo(float).eps, values, 0.0)
        return values, vectors

    @cached_property
    def curvature(self) -> float:
        """Lipschitz constant of the gradient."""
        return float(np.linalg.eigvalsh(self.gram).max())

    @cached_property
    def mean_eigenvalue(self) -> float:
        """Mean of all eigenvalues: the natural unit of a quadratic penalty."""
        width = self.gram.shape[-1]
        return float(np.einsum("tdd->", self.gram) / (len(self.gram) * width))

    def with_ridge(self, ridge: float) -> Problem:
        """The same with ``ridge / 2 |W|^2`` added to the loss, as rows of zeros in the targets would."""
        return replace(self, gram=self.gram + ridge * np.eye(self.gram.shape[-1]))

    def apply(self, W: Array) -> Array:
        """``G_t w_t`` for every task."""
        return _apply(self.gram, W)

    def loss(self, W: Array) -> float:
        """The value of ``f``."""
        return 0.5 * float(np.sum(self.square) + np.sum((self.apply(W) - 2 * self.cross) * W))


def _apply(gram: Array, W: Array) -> Array:
    product: Array = W @ gram[0] if len(gram) == 1 else np.matmul(gram, W[:, :, None])[:, :, 0]
    return product


def _no_zeros(scale: Array, magnitude: Array) -> Array:
    """One in place of a spread that is only rounding."""
    return np.where(scale > 1e-10 * magnitude, scale, 1.0)
