"""The tree model's contract: means of all outputs in, answers and scores in the form of the targets out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, validate_data

from polytask.errors import InputError, RecipeError, TargetError
from polytask.trees.columns import Columns, answer, by_task, read_columns
from polytask.trees.targets import TargetCode, explained, mean_score

__all__ = ["TreeModel", "used_rows"]

Floats = NDArray[np.float64]


def _has_classes(model: TreeModel) -> bool:
    kinds = getattr(model, "kinds_", [])
    if any(kind != "regression" for kind in kinds):
        return True
    why = "every target is a regression" if kinds else "it is not fitted"
    raise AttributeError(f"{type(model).__name__} has no probabilities: {why}.")


class TreeModel(MultiOutputMixin, RegressorMixin, BaseEstimator, ABC):
    """A model of several targets of mixed kinds, with missing labels.

    A subclass learns in ``fit``, keeps what :meth:`_store` keeps, and answers :meth:`_means`.

    Attributes:
        form_: The form of the targets, see :class:`~polytask.trees.columns.Columns`.
        tasks_: Names of the tasks; positions if the targets have no names.
        kinds_: Kind of each task.
        classes_: Classes of each task; empty for a regression.
        output_task_: The task of each output.
        output_center_: What was subtracted from each output.
        output_scale_: What each output was divided by.
    """

    @abstractmethod
    def _means(self, X: Any) -> Floats:
        """Numbers and class probabilities in the targets' units [rows, outputs]."""

    def predict(self, X: Any) -> Any:
        """Predict numbers and most probable classes, in the form in which the targets were given.

        For targets in a data frame that is a pandas data frame, with the index of ``X`` if it has one.
        """
        return self._answer(self._means(X), getattr(X, "index", None))

    @available_if(_has_classes)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities [rows, classes] of each classification task, by task; one array if y was a vector."""
        return self._probabilities(self._means(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of variance explained, a mean over tasks.

        For a regression R², for classes the Brier skill: one less the squared error of the probabilities over that of
        the class frequencies. Missing labels, and tasks without any label here, do not count.
        """
        return mean_score(self.task_scores(X, y, sample_weight))

    def task_scores(self, X: Any, y: Any, sample_weight: Any = None) -> Floats:
        """The share of variance explained for each task: see :meth:`score`."""
        means, code = self._means(X), self._code()
        columns = self._read_targets(y, len(means)).pick(self.tasks_)
        weight = self._read_weight(sample_weight, means)
        return explained(code.encode(columns), (means - code.center) / code.scale, code.owner, weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.single_output = True
        return tags

    def _read_inputs(self, X: Any, *, reset: bool) -> NDArray[np.float32]:
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is infinite, and refused
                read = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=reset)
        except ValueError as error:
            hint = ""
            if "could not convert string" in str(error):
                hint = ". Give categories as codes, for instance those of scikit-learn's OrdinalEncoder."
            raise InputError(f"{error}{hint}") from error
        return np.asarray(read)

    def _read_targets(self, y: Any, n_rows: int) -> Columns:
        if y is None:
            raise TargetError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        columns = read_columns(y)
        if len(columns.observed) != n_rows:
            raise TargetError(f"There are {n_rows} rows of inputs but {len(columns.observed)} rows of targets.")
        return columns

    def _read_weight(self, sample_weight: Any, X: Any) -> Floats:
        try:
            # The rows are all that it reads of X, so NaN in X does not matter.
            weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        except ValueError as error:
            raise InputError(str(error)) from error
        return np.asarray(weight)

    def _read_task_weights(self, given: Any, tasks: list[Hashable]) -> Floats:
        weights = np.asarray(by_task("task_weights", given, tasks, 1.0), dtype=np.float64)
        if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
            raise RecipeError(f"task_weights must be finite, not negative and not all zero; got {given!r}.")
        return weights

    def _store(self, code: TargetCode, form: str) -> None:
        self.form_: str = form
        self.tasks_: list[Hashable] = code.tasks
        self.kinds_: list[str] = code.kinds
        self.classes_: list[NDArray[Any]] = code.classes
        self.output_task_, self.output_center_, self.output_scale_ = code.owner, code.center, code.scale

    def _code(self) -> TargetCode:
        return TargetCode(
            self.tasks_, self.kinds_, self.classes_, self.output_task_, self.output_center_, self.output_scale_
        )

    def _answer(self, means: Floats, index: Any = None) -> Any:
        code = self._code()
        labels = [code.labels(means, task) for task in range(len(self.tasks_))]
        return answer(self.form_, self.tasks_, labels, index)

    def _probabilities(self, means: Floats) -> Any:
        code = self._code()
        found = {
            name: code.probabilities(means, task)
            for task, name in enumerate(self.tasks_)
            if self.kinds_[task] != "regression"
        }
        return found[0] if self.form_ == "vector" else found


def used_rows(columns: Columns, weight: Floats) -> NDArray[np.bool_]:
    """Rows that have a label and a weight above zero.

    Raises:
        TargetError: If there is none.
    """
    used = np.asarray(columns.observed.any(axis=1) & (weight > 0))
    if not used.any():
        raise TargetError("No row has both an observed label and a weight above zero.")
    return used
