"""Tasks drawn to their neighbours in a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from polytask.errors import RecipeError
from polytask.linear.model import LinearModel, Solution, warn_unfinished
from polytask.linear.moments import Intercept, Problem, Scale
from polytask.linear.rows import Array

__all__ = ["GraphLaplacian"]


class GraphLaplacian(LinearModel):
    r"""Tasks joined in a graph that is known are drawn to each other.

    .. math:: \min_W \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2
        + \tfrac{\alpha}{2} \sum_{s < t} A_{st} \|w_s - w_t\|^2 + \tfrac{\rho}{2} \|W\|_F^2

    Args:
        alpha: Strength of the pull along edges.
        graph: Symmetric weights ``A`` [T, T], none below zero; the diagonal means nothing. ``None`` joins all tasks
            by ``1 / T``, which is :class:`~polytask.linear.mean_regularised.MeanRegularised`.
        ridge: Strength ``rho`` on all coefficients, above zero.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.
        tol: Largest duality gap, relative to the objective, at which to stop.
        max_iter: Most iterations.

    Raises:
        RecipeError: If the graph does not fit the tasks, or a strength is out of its range.

    Example:
        >>> import numpy as np
        >>> X = [np.array([[1.0], [-1.0]])] * 3
        >>> Y = [np.array([1.0, -1.0]), np.array([3.0, -3.0]), np.array([9.0, -9.0])]
        >>> graph = [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
        >>> GraphLaplacian(alpha=1.0, graph=graph, ridge=1e-9).fit(X, Y).coef_.round(3).tolist()
        [[1.667], [2.333], [9.0]]

    Note:
        With one Gram matrix for all tasks the solution is a closed form in the eigenvectors of Gram matrix and graph,
        ``O(T^3 + D^3)``. Otherwise conjugate gradients, preconditioned by the closed form for the mean Gram matrix,
        ``O(T D^2 + T^2 D)`` each; with residual ``R`` the objective is within ``tr(R' Q^-1 R) / 2`` of the optimum,
        where ``Q`` is the matrix of the penalty, and that bound stops the iteration.

    References:
        Evgeniou, Micchelli and Pontil, "Learning Multiple Tasks with Kernel Methods", JMLR 2005.
    """

    searched: ClassVar[Mapping[str, tuple[float, ...]]] = {"ridge": (1e-4, 1e-2)}
    path_span = 1e-7

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        graph: Any = None,
        ridge: float = 1e-4,
        intercept: Intercept = "own",
        scale: Scale = "none",
        tol: float = 1e-6,
        max_iter: int = 1000,
    ):
        self.alpha = alpha
        self.graph = graph
        self.ridge = ridge
        self.intercept = intercept
        self.scale = scale
        self.tol = tol
        self.max_iter = max_iter

    def check_settings(self) -> None:
        """Raise if a setting is out of its range."""
        super().check_settings()
        self._require("ridge", lambda ridge: ridge > 0 and math.isfinite(ridge), "a finite number above zero")
        self._require("tol", lambda tol: tol > 0, "above zero")
        self._require("max_iter", lambda most: most >= 1, "one or more")

    def solve(self, problem: Problem, alpha: float, start: Array | None = None) -> Solution:
        """Closed form for shared rows, conjugate gradients otherwise."""
        n_tasks, width = problem.shape
        task_values, task_vectors = np.linalg.eigh(self._laplacian(n_tasks))
        task_values = alpha * np.maximum(task_values, 0.0) + self.ridge
        values, vectors = np.linalg.eigh(problem.gram.mean(0))
        inverse = 1.0 / (task_values[:, None] + np.maximum(values, 0.0))

        def precondition(R: Array) -> Array:
            solved: Array = task_vectors @ ((task_vectors.T @ R @ vectors) * inverse) @ vectors.T
            return solved

        def penalise(W: Array) -> Array:
            product: Array = task_vectors @ (task_values[:, None] * (task_vectors.T @ W))
            return product

        def gap_at(R: Array) -> float:
            return 0.5 * float(((task_vectors.T @ R) ** 2 / task_values[:, None]).sum())

        W = np.zeros((n_tasks, width)) if start is None else start[0].copy()
        residual = problem.cross - problem.apply(W) - penalise(W)
        total, direction, energy = float(problem.square.sum()), np.zeros_like(W), 1.0
        for iteration in range(self.max_iter + 1):
            objective = 0.5 * (total - float(np.vdot(problem.cross + residual, W)))
            gap = gap_at(residual)
            if gap <= max(self.tol * objective, 1e-14 * total) or iteration == self.max_iter:
                break
            better = precondition(residual)
            energy, before = float(np.vdot(residual, better)), energy
            direction = better + (energy / before if iteration else 0.0) * direction
            product = problem.apply(direction) + penalise(direction)
            length = energy / float(np.vdot(direction, product))
            W = W + length * direction
            residual = residual - length * product
        solution = Solution(W[None], objective, gap, max(iteration, 1))
        warn_unfinished(self, solution, self.tol, self.max_iter)
        return solution

    def largest_alpha(self, problem: Problem) -> float:
        """Where joined tasks all but agree, for an edge of unit weight between all pairs of neighbours."""
        weights = np.linalg.eigvalsh(self._laplacian(problem.shape[0]))
        connected = weights[weights > 1e-9 * max(weights[-1], 1e-300)]
        return 1e3 * problem.mean_eigenvalue / float(connected[0] if len(connected) else 1.0)

    def _laplacian(self, n_tasks: int) -> Array:
        if self.graph is None:
            return np.asarray(np.eye(n_tasks) - 1.0 / n_tasks, dtype=np.float64)
        graph = np.array(self.graph, dtype=np.float64)
        if graph.shape != (n_tasks, n_tasks):
            raise RecipeError(
                f"{type(self).__name__} needs graph of shape [{n_tasks}, {n_tasks}] for its {n_tasks} tasks, "
                f"got {list(graph.shape)}."
            )
        if not np.isfinite(graph).all() or (graph < 0).any() or not np.allclose(graph, graph.T):
            raise RecipeError(f"{type(self).__name__} needs graph to be finite, symmetric and none below zero.")
        np.fill_diagonal(graph, 0.0)
        return np.asarray(np.diag(graph.sum(1)) - graph, dtype=np.float64)
