"""Linear models of all numeric tasks, learned jointly."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from polytask.bundle import Lines
from polytask.bundle.columns import columns_of
from polytask.linear import registry
from polytask.linear.cross_validated import cross_validated
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.plain import served

__all__ = ["JointLinear"]

_FEWEST = 10
"""Fewest training labels of a task, so that cross-validation inside has something to work with."""


class JointLinear(Arm):
    """Linear models of all numeric tasks under a convex joint penalty, its strength chosen by cross-validation.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.
        kind: The penalty, a name in ``polytask list linear``.

    Note:
        It costs two cross-validations, without and with the validation rows, each of five folds with paths of 30
        strengths. Only numeric tasks with at least ten training labels are served; it is left out with fewer than two
        of them. The model is linear in the numbers and in an indicator of each code.
    """

    role: ClassVar[str] = "linear"
    takes: ClassVar[tuple[str, ...]] = ("kind",)

    def __init__(self, name: str, kind: str = "trace_norm"):
        super().__init__(name)
        self.kind = kind
        self.model_class = registry.load(kind)

    @property
    def words(self) -> str:
        """What the arm is."""
        return f"Linear models of all numeric tasks under a joint penalty ({self.kind}, cross-validated)."

    def why_not(self, fold: FoldData) -> str:
        """It is for two numeric tasks or more."""
        return (
            "" if len(self._tasks(fold)) > 1 else f"it takes two numeric tasks with at least {_FEWEST} training labels"
        )

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Learn from the training rows, and once more with the validation rows."""
        names = self._tasks(fold)
        first = None if settled is not None else self._lines(fold, names, "train")
        last = self._lines(fold, names, "both")
        return FittedArm([last], [first if first is not None else last])

    def _lines(self, fold: FoldData, names: list[str], part: str) -> Lines:
        from sklearn.exceptions import ConvergenceWarning

        columns = [column for column in fold.columns if column.task in names]
        Y = np.column_stack([fold.labels(column, part) for column in columns])
        some = ~np.isnan(Y).all(1)
        X = fold.matrix(part, one_hot=True).astype(np.float64)
        maker: Any = cross_validated
        model = maker(self.model_class)()
        with warnings.catch_warnings():
            # What an unfinished solution is worth, the test rows say.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X[some], Y[some])
        widths = dict.fromkeys(names, 1)
        coefficients, intercepts = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
        return Lines(fold.source, widths, coefficients, intercepts, fold.cardinalities, fold.encoding)

    def _tasks(self, fold: FoldData) -> list[str]:
        found = []
        for task in served(fold, ("number",)):
            labels = fold.labels(columns_of(task)[0], "train")
            if (~np.isnan(labels)).sum() >= _FEWEST:
                found.append(task.name)
        return found
