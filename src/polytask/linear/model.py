"""The linear model's contract: a problem and a strength in, coefficients and a certificate out."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_args

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from polytask.errors import InputError, RecipeError, TargetError
from polytask.linear.moments import Intercept, Moments, Problem, Scale
from polytask.linear.rows import Array, Form, is_per_task, read_inputs, read_rows

__all__ = ["LinearModel", "LinearPredictor", "Solution", "warn_unfinished"]


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Args:
        parts: Components [K, T, D] whose sum is the coefficient matrix, in the problem's units.
        objective: Loss and penalty there.
        gap: Upper bound on the distance of ``objective`` from the optimum; zero up to rounding for closed forms.
        n_iter: Iterations; one for closed forms.
    """

    parts: Array
    objective: float
    gap: float = 0.0
    n_iter: int = 1

    @property
    def coefficients(self) -> Array:
        """The coefficient matrix [T, D] in the problem's units."""
        total: Array = self.parts.sum(0)
        return total


class LinearPredictor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """What a fitted linear model can do: predict and score, for one table or for one table per task."""

    coef_: Array
    intercept_: Array
    _form: Form

    def predict(self, X: Any) -> Any:
        """Predictions in the form of the question.

        Args:
            X: One table, to get every task's prediction for each of its rows; or a list of one table per task,
                to get a list of vectors.

        Returns:
            [N] if fitted with a vector of targets, [N, T] otherwise; for a list, a list of T vectors.

        Raises:
            InputError: If the features are not those of the training data, or the tables are not one per task.
        """
        check_is_fitted(self)
        inputs = read_inputs(self, X, fitting=False)
        coef, intercept = np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_)
        if not is_per_task(X):
            together = inputs[0] @ coef.T + intercept
            return together[:, 0] if self._form == "vector" else together
        if len(inputs) != len(coef):
            raise InputError(
                f"{type(self).__name__} has {len(coef)} tasks and got {len(inputs)} tables. "
                "Give one table per task, or one table for all tasks."
            )
        return [x @ w + b for x, w, b in zip(inputs, coef, intercept, strict=True)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean over the tasks of R² on the labels that are there; NaN if there is none at all.

        A task whose labels do not vary scores 1 if predicted exactly and 0 otherwise, as in scikit-learn. A task
        without labels here does not count.

        Raises:
            InputError: As in :meth:`predict`.
            TargetError: If the labels cannot be used, or are of another number of tasks.
        """
        predictions = self.predict(X)
        rows = read_rows(self, X, y, sample_weight, fitting=False)
        n_tasks = len(np.atleast_1d(self.intercept_))
        if rows.n_tasks != n_tasks:
            raise TargetError(f"{type(self).__name__} has {n_tasks} tasks and got labels of {rows.n_tasks}.")
        columns = predictions if is_per_task(X) else list(np.reshape(predictions, (len(predictions), -1)).T)
        scores = []
        for target, weight, prediction in zip(rows.targets, rows.weights, columns, strict=True):
            if not weight.any():
                continue
            mean = np.average(target, weights=weight)
            total, error = weight @ (target - mean) ** 2, weight @ (target - prediction) ** 2
            scores.append(1 - error / total if total > 0 else float(error == 0))
        return float(np.mean(scores)) if scores else float("nan")

    def _learn(self, problem: Problem, solution: Solution, form: Form, part_names: Sequence[str]) -> None:
        coef, intercept = problem.frame.restore(solution.coefficients)
        is_vector = form == "vector"
        self._form = form
        self.coef_ = coef[0] if is_vector else coef
        self.intercept_ = intercept[0] if is_vector else intercept
        self.n_iter_ = solution.n_iter
        self.objective_ = solution.objective
        self.gap_ = solution.gap
        for name, part in zip(part_names, solution.parts, strict=False):
            slopes = problem.frame.slopes(part)
            setattr(self, name, slopes[0] if is_vector else slopes)


class LinearModel(LinearPredictor, ABC):
    """A linear model of several tasks: squared loss on every observed label, and a penalty that lets tasks share.

    A subclass states its penalty by implementing :meth:`solve`. All of them work on Gram
    matrices, which costs ``T D^2`` numbers of memory (``D^2`` for shared rows without missing labels) and makes the
    time of an iteration independent of the number of rows: made for features by the hundred, not by the ten thousand.

    Class attributes:
        searched: Settings besides ``alpha`` that the cross-validated version searches, and where.
        path_span: The smallest ``alpha`` of a path, relative to its largest.
        part_names: Attributes under which the components of the coefficients are kept, if there are several.
    """

    searched: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    path_span: ClassVar[float] = 1e-3
    part_names: ClassVar[tuple[str, ...]] = ()

    alpha: float
    intercept: Intercept
    scale: Scale

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn all tasks together.

        Args:
            X: One table [N, D], or a list of one table [N_t, D] per task.
            y: [N] or [N, T], or a list of one vector [N_t] per task; NaN where a label is missing.
            sample_weight: Weights of the rows, or of the labels, in the shape of either.

        Raises:
            InputError: If the inputs cannot be used.
            TargetError: If the labels cannot be used, or a task has none.
            RecipeError: If a setting is out of its range.
        """
        self.check_settings()
        rows = read_rows(self, X, y, sample_weight)
        problem = Problem.of(Moments.of(rows), self.intercept, self.scale)
        self._learn(problem, self.solve(problem, self.alpha), rows.form, self.part_names)
        return self

    @abstractmethod
    def solve(self, problem: Problem, alpha: float, start: Array | None = None) -> Solution:
        """Minimise loss and penalty, from ``start`` [K, T, D] if given."""

    def largest_alpha(self, problem: Problem) -> float:
        """Where a path begins: from here on next to nothing more happens.

        For a quadratic penalty a thousand times the mean eigenvalue: what is penalised is then all but zero.
        """
        return 1e3 * problem.mean_eigenvalue

    def path(self, problem: Problem, alphas: Sequence[float]) -> Iterator[Solution]:
        """Solutions for falling strengths, each started from the one before."""
        start = None
        for alpha in alphas:
            solution = self.solve(problem, alpha, start)
            start = solution.parts
            yield solution

    def check_settings(self) -> None:
        """Raise if a setting is out of its range.

        Raises:
            RecipeError: Naming the setting, its value and its range.
        """
        self._require("alpha", lambda alpha: alpha >= 0 and math.isfinite(alpha), "a finite number, zero or more")
        for name, kinds in (("intercept", get_args(Intercept)), ("scale", get_args(Scale))):
            self._require(name, kinds.__contains__, f"one of {', '.join(map(repr, kinds))}")

    def _require(self, name: str, holds: Callable[[Any], bool], wanted: str) -> None:
        value = getattr(self, name)
        try:
            is_fine = holds(value)
        except (TypeError, ValueError):  # text, None or an array, where a number can be compared
            is_fine = False
        if not is_fine:
            raise RecipeError(f"{type(self).__name__} needs {name} to be {wanted}, got {value!r}.")


def warn_unfinished(model: LinearModel, solution: Solution, tol: float, max_iter: int) -> None:
    """Say so if an iteration ended before its certificate was good enough."""
    if solution.n_iter >= max_iter and solution.gap > tol * solution.objective:
        warnings.warn(
            f"{type(model).__name__} stopped after {solution.n_iter} iterations with a duality gap of "
            f"{solution.gap:.2e} at objective {solution.objective:.2e}. Increase max_iter or alpha, "
            "scale the inputs, or accept a larger tol.",
            ConvergenceWarning,
            stacklevel=4,
        )
