"""A linear model for each task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytask.bundle import Lines
from polytask.bundle.columns import Column, columns_of
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.plain import Rows, rows_of, served, why_not_serve
from polytask.tasks.task import Task

__all__ = ["Linear"]

_RIDGES = tuple(np.logspace(-3, 5, 33))
_STRENGTHS = tuple(np.logspace(-4, 1, 6))
"""Penalty per observation of the models for classes and counts."""
_LARGE = 3.0
"""Typical size of inputs above which they are divided."""
_NEVER = -20.0
"""Logit of a class that was never seen in training."""


_SORTS = ("number", "rate", "classes")


class Linear(Arm):
    """One linear model per task: ridge for numbers, logistic for classes, Poisson for counts, with a tuned penalty.

    The penalty of ridge is chosen by leave-one-out error, the others' by validation; then they learn once more with
    the validation rows.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Note:
        For numbers it costs one ridge regression with 33 strengths, for each other column six fits; then two fits with
        the strength that was chosen, without and with the validation rows. An ordinal task has a model for each step
        between its levels. The model is linear in the numbers and in an indicator of each code: interactions of inputs
        are left out. Quantile tasks are not served.
    """

    role: ClassVar[str] = "outsider"
    is_per_task: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One linear model per task (ridge, logistic or Poisson regression, penalty tuned)."

    def why_not(self, fold: FoldData) -> str:
        """There must be a task that it can serve."""
        return why_not_serve(fold, _SORTS)

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Tune, and learn once more with the validation rows."""
        tasks = served(fold, _SORTS)
        found = dict(settled or {})
        matrices = {part: fold.matrix(part, one_hot=True) for part in ("train", "both")}
        if fold.has_validation:
            matrices["validation"] = fold.matrix("validation", one_hot=True)
        lines: dict[str, list[_Line]] = {"train": [], "both": []}
        for task in tasks:
            for column in columns_of(task):
                for step in _steps(task, column):
                    rows = {part: step.take(rows_of(fold, m, column, part)) for part, m in matrices.items()}
                    key = f"strength {column.key} {step.level}"
                    if settled is None:
                        found[key] = step.tune(rows["train"], rows.get("validation"))
                        lines["train"].append(step.fit(rows["train"], found[key]))
                    lines["both"].append(step.fit(rows["both"], found.get(key, _STRENGTHS[2])))
        widths = {task.name: task.n_outputs for task in tasks}
        last = _lines(fold, widths, lines["both"])
        return FittedArm([last], [_lines(fold, widths, lines["train"])] if settled is None else [last], found)


_Line = tuple[np.ndarray, np.ndarray]
"""Coefficients ``[O, D]`` and intercepts ``[O]``."""


@dataclass(frozen=True)
class _Step:
    """One linear model: all of a column, or one step between the levels of an ordinal task.

    Args:
        what: ``number``, ``rate`` or ``classes``.
        n_classes: Number of classes.
        level: For an ordinal task, the level that the step leads beyond; -1 otherwise.
    """

    what: str
    n_classes: int = 0
    level: int = -1

    def take(self, rows: Rows) -> Rows:
        """The rows that the model is about, with its labels."""
        if self.level < 0:
            return rows
        reached = rows[1] >= self.level
        return rows[0][reached], (rows[1][reached] > self.level).astype(np.float64)

    def tune(self, rows: Rows, held_out: Rows | None) -> float:
        """The best strength of the penalty."""
        if self.what == "number":
            from sklearn.linear_model import RidgeCV

            return float(RidgeCV(alphas=_RIDGES).fit(*rows).alpha_)
        if held_out is None or not len(held_out[1]):
            return float(_STRENGTHS[2])
        errors = [self._error(self.fit(rows, strength), held_out) for strength in _STRENGTHS]
        return float(_STRENGTHS[int(np.argmin(errors))])

    def fit(self, rows: Rows, strength: float) -> _Line:
        """The model with this strength."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

        n, labels = rows[0].shape[1], rows[1]
        with warnings.catch_warnings():
            # An unfinished solution is a linear model too; whether it is any good, the test rows say.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if self.what == "number":
                # In single precision the Gramian of more inputs than rows, such as pixels, may be singular to rounding.
                inputs = rows[0].astype(np.float64) if n > len(labels) else rows[0]
                ridge = Ridge(alpha=strength).fit(inputs, labels)
                return ridge.coef_.reshape(1, n), np.atleast_1d(ridge.intercept_)
            if self.what == "rate":
                scale = _scale_of(rows[0])
                poisson = PoissonRegressor(alpha=strength, max_iter=300).fit(rows[0] / scale, labels)
                return poisson.coef_.reshape(1, n) / scale, np.atleast_1d(poisson.intercept_)
            seen = np.unique(labels).astype(np.int64)
            if len(seen) < 2:
                always = -_NEVER if len(seen) and seen[0] else _NEVER
                return np.zeros((1, n)), np.array([always])
            logistic = LogisticRegression(C=1 / (strength * len(labels)), max_iter=300).fit(*rows)
        if self.n_classes == 2 or self.level >= 0:
            return logistic.coef_.reshape(1, n), np.atleast_1d(logistic.intercept_)
        return _all_classes(logistic, seen, self.n_classes)

    def _error(self, line: _Line, held_out: Rows) -> float:
        """Mean negative log-likelihood, up to a constant."""
        z = held_out[0] @ line[0].T + line[1]
        y = held_out[1]
        if self.what == "rate":
            return float((np.exp(np.minimum(z[:, 0], 30.0)) - y * z[:, 0]).mean())
        logits = z if z.shape[1] > 1 else np.column_stack([np.zeros(len(z)), z[:, 0]])
        shifted = logits - logits.max(1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return float(-log_p[np.arange(len(y)), y.astype(np.int64)].mean())


def _scale_of(inputs: np.ndarray) -> float:
    """What divides inputs that were not scaled, such as pixels from 0 to 255, whose exponentials would overflow.

    It grows from 1 without a leap, so that a strength means nearly the same for other rows of the same inputs.
    """
    typical = float(np.sqrt(np.einsum("ij,ij->", inputs, inputs, dtype=np.float64) / max(inputs.size, 1)))
    return max(1.0, typical / _LARGE)


def _steps(task: Task, column: Column) -> list[_Step]:
    if task.kind == "ordinal":
        return [_Step("classes", 2, level) for level in range(column.n_classes - 1)]
    return [_Step(column.what, column.n_classes)]


def _all_classes(logistic: Any, seen: np.ndarray, n_classes: int) -> _Line:
    """Logits of all classes, those that were never seen in training included."""
    coefficients = np.zeros((n_classes, logistic.coef_.shape[1]))
    intercepts = np.full(n_classes, _NEVER)
    if len(seen) == 2:
        coefficients[seen[1]], intercepts[seen[0]], intercepts[seen[1]] = logistic.coef_[0], 0.0, logistic.intercept_[0]
    else:
        coefficients[seen], intercepts[seen] = logistic.coef_, logistic.intercept_
    return coefficients, intercepts


def _lines(fold: FoldData, widths: Mapping[str, int], lines: Sequence[_Line]) -> Lines:
    coefficients = np.vstack([line[0] for line in lines]).astype(np.float64)
    intercepts = np.concatenate([line[1] for line in lines]).astype(np.float64)
    return Lines(fold.source, widths, coefficients, intercepts, fold.cardinalities, fold.encoding)
