"""The scikit-learn face: fit, predict, predict_proba, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_is_fitted

from polytask.errors import InputError, RecipeError, TargetError
from polytask.tasks.task import Prediction, Task

__all__ = ["MultiTaskEstimator"]


class MultiTaskEstimator(BaseEstimator):  # type: ignore[misc]
    """Learns several targets of a table together; missing labels are NaN (or ``None``) in Y.

    Args:
        tasks: Kind, or options, of each target: ``{"visits": "count", "ill": {"kind": "binary", "weight": 2}}``; a list
            in the order of Y's columns; inferred from the labels where left out.
        encoder: Name or ``{"name": ..., options}``; ``auto`` takes ``tabm``. See ``polytask list encoders``.
        sharing: Likewise; see ``polytask list sharing``.
        balancer: Likewise; see ``polytask list balancers``.
        training: Further settings, see :class:`polytask.training.settings.Settings`.
        validation: Share of the rows that is kept for early stopping; 0 trains all epochs.
        random_state: Seed of split, parameters and batches; a number makes fits equal bit for bit.
        verbose: Show a progress bar.

    Attributes:
        tasks_: The fitted tasks, in the order of Y's columns.
        bundle_: The trained model, see :class:`polytask.bundle.Bundle`.
        history_: A dict per epoch.
        n_features_in_: Number of input columns.
        feature_names_in_: Their names, if X had names.

    Shape:
        X ``[N, D]``, an array or a data frame (categories, text, dates and missing values welcome);
        Y ``[N]`` or ``[N, T]``, an array or a data frame.

    Raises:
        TargetError: If a target has no labels, or only one class.
        InputError: If the columns are not those of the training.

    Example:
        >>> from sklearn.datasets import load_linnerud
        >>> X, Y = load_linnerud(return_X_y=True)
        >>> Y[::3, 1] = np.nan
        >>> model = MultiTaskEstimator("regression", training={"epochs": 2}, random_state=0).fit(X, Y)
        >>> model.predict(X[:2]).shape, [task.kind for task in model.tasks_]
        ((2, 3), ['regression', 'regression', 'regression'])

    Note:
        Targets are columns of one table here. Tasks with different data sets or inputs are a matter of
        :class:`polytask.Recipe`.
    """

    def __init__(
        self,
        tasks: Any = None,
        *,
        encoder: Any = "auto",
        sharing: Any = "hard",
        balancer: Any = "equal",
        training: Mapping[str, Any] | None = None,
        validation: float = 0.15,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.tasks = tasks
        self.encoder = encoder
        self.sharing = sharing
        self.balancer = balancer
        self.training = training
        self.validation = validation
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on the rows of X and their labels.

        Args:
            X: Input columns.
            y: Labels ``[N]`` or ``[N, T]``, NaN or ``None`` where missing.
            sample_weight: Factor on every loss of a row, ``[N]``.
        """
        from polytask.recipe import Recipe
        from polytask.training.progress import Bar

        frame = self._inputs(X, reset=True)
        labels = self._labels(y, len(frame))
        targets = [f"target {name}" if name in frame.columns else name for name in labels.columns]
        table = frame.assign(**dict(zip(targets, (labels[name].to_numpy() for name in labels.columns), strict=True)))
        # What is in X was put there on purpose, and Y may be one of its columns.
        source: dict[str, Any] = {"inputs": list(frame.columns), "allow": list(frame.columns)}
        if not self._has_names:
            source["kinds"] = dict.fromkeys(frame.columns, "numeric")
        if sample_weight is not None:
            table["sample weight"] = _checked_weights(sample_weight, len(frame))
            source["row_weights"] = "sample weight"
        tasks = {
            str(name): {"target": target, **options}
            for name, target, options in zip(labels.columns, targets, self._task_options(labels), strict=True)
        }
        if not isinstance(self.training, Mapping | None):
            raise RecipeError(f"training needs a mapping of settings, such as {{'epochs': 20}}; got {self.training!r}.")
        training = dict(self.training or {})
        if not self.validation:
            training["patience"] = None
        recipe = Recipe(
            tasks=tasks,
            data={"data": source},
            encoder=self.encoder,
            sharing=self.sharing,
            balancer=self.balancer,
            split={"validation": self.validation, "test": 0.0},
            training=training,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
        )
        run = recipe.run({"data": table}, progress=Bar() if self.verbose else None)
        self.bundle_ = run.bundle
        self.tasks_: Sequence[Task] = list(run.bundle.tasks)
        self.history_ = run.history
        self.n_iter_ = run.record.epochs
        return self

    def predict(self, X: Any) -> Any:
        """Answers in the user's units.

        Returns:
            ``[N]`` if Y was, a data frame if Y was, else ``[N, T]``; numbers, or objects if classes are no numbers.
        """
        answers = self._answers(X)
        columns = {name: answer.values for name, answer in answers.items()}
        if self._y_form == "frame":
            return pd.DataFrame(columns)
        if self._y_form == "vector":
            return next(iter(columns.values()))
        return np.column_stack(list(columns.values()))

    def predict_proba(self, X: Any) -> Any:
        """Probabilities ``[N, K]`` of the classes of ``tasks_``; a dict by task unless Y was ``[N]``.

        Raises:
            TargetError: If no task has probabilities.
        """
        check_is_fitted(self)
        names = [task.name for task in self.tasks_ if task.has_probabilities]
        if not names:
            raise TargetError("None of the tasks has classes, so there are no probabilities; use predict.")
        answers = self._answers(X)
        if self._y_form == "vector":
            return answers[names[0]].probabilities
        return {name: answers[name].probabilities for name in names}

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean over the tasks of the coefficient of determination (numbers) or the accuracy (classes).

        Only observed labels count; a task without any in Y is left out.

        Raises:
            TargetError: If Y has no observed label, or not the rows of X and the columns of the training.
        """
        from sklearn.metrics import accuracy_score, r2_score

        answers = self._answers(X)
        labels = self._labels(y, None)
        n_rows = len(next(iter(answers.values())).values)
        if labels.shape != (n_rows, len(self.tasks_)):
            raise TargetError(
                f"Y needs a row for each of the {n_rows} of X and a column for each of {len(self.tasks_)} tasks, got "
                f"{labels.shape}."
            )
        weights = None if sample_weight is None else _checked_weights(sample_weight, n_rows)
        scores = []
        for column, task in zip(labels.columns, self.tasks_, strict=True):
            seen = labels[column].notna().to_numpy()
            if not seen.any():
                continue
            measure = accuracy_score if task.has_probabilities else r2_score
            truth, answer = labels[column].to_numpy()[seen], answers[task.name].values[seen]
            if task.has_probabilities:
                truth, answer = truth.astype(str), _like(answer, truth).astype(str)
            scores.append(measure(truth, answer, sample_weight=None if weights is None else weights[seen]))
        if not scores:
            raise TargetError("Y has no observed label, so there is nothing to score.")
        return float(np.mean(scores))

    def _answers(self, X: Any) -> dict[str, Prediction]:
        check_is_fitted(self)
        return self.bundle_.predict(self._inputs(X, reset=False))

    def _inputs(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """X as a frame whose columns are named as in training."""
        is_frame = (hasattr(X, "columns") and hasattr(X, "__dataframe__")) or isinstance(X, pd.DataFrame)
        _check_feature_names(self, X, reset=reset)
        if is_frame:
            from polytask.data.tables import read_table

            frame = read_table(X)
            frame.columns = frame.columns.astype(str)
        else:
            array = check_array(
                X, dtype="numeric", ensure_all_finite="allow-nan", ensure_min_samples=2 if reset else 1, estimator=self
            )
            if np.isinf(array.astype(float)).any():
                raise InputError("Input X contains infinity.")
            frame = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
        _check_n_features(self, frame, reset=reset)
        if reset:
            self._has_names = is_frame
            self._names = list(frame.columns)
        elif not is_frame:
            frame.columns = pd.Index(self._names)
        return frame

    def _labels(self, Y: Any, n_rows: int | None) -> pd.DataFrame:
        """Y as a frame with a column for each target."""
        if Y is None:
            raise TargetError("MultiTaskEstimator requires y to be passed, but the target y is None.")
        form = "matrix"
        if isinstance(Y, pd.DataFrame):
            frame, form = Y.reset_index(drop=True), "frame"
        elif isinstance(Y, Mapping):
            frame, form = pd.DataFrame(dict(Y)), "frame"
        elif hasattr(Y, "columns"):
            from polytask.data.tables import read_table

            frame, form = read_table(Y), "frame"
        else:
            array = np.asarray(Y)
            if array.ndim == 0 or array.ndim > 2:
                raise TargetError(f"Y needs the shape [N] or [N, T], got {array.shape}.")
            if array.dtype.kind == "c":
                raise TargetError("Complex data not supported: labels are numbers or classes.")
            if array.dtype.kind == "f" and np.isinf(array).any():
                raise TargetError("Input y contains infinity; mark missing labels by NaN.")
            form = "vector" if array.ndim == 1 else "matrix"
            matrix = array.reshape(len(array), -1)
            frame = pd.DataFrame({f"y{i}": matrix[:, i] for i in range(matrix.shape[1])})
        if n_rows is not None:
            if len(frame) != n_rows:
                raise TargetError(f"X has {n_rows} rows and Y has {len(frame)}; they need to be equal.")
            self._y_form = form
        return frame

    def _task_options(self, labels: pd.DataFrame) -> list[dict[str, Any]]:
        tasks = self.tasks
        if tasks is None:
            return [{} for _ in labels.columns]
        if isinstance(tasks, str):
            tasks = [tasks] * labels.shape[1]
        if isinstance(tasks, Mapping):
            if unknown := sorted(set(tasks) - set(labels.columns)):
                raise TargetError(f"tasks names {unknown}, which are no columns of Y; it has {list(labels.columns)}.")
            tasks = [tasks.get(name, {}) for name in labels.columns]
        if len(tasks) != labels.shape[1]:
            raise TargetError(f"tasks has {len(tasks)} entries for the {labels.shape[1]} columns of Y.")
        return [{"kind": entry} if isinstance(entry, str) else dict(entry) for entry in tasks]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = True
        tags.non_deterministic = False
        return tags


def _checked_weights(weights: Any, n_rows: int) -> np.ndarray:
    checked = np.asarray(weights, dtype=float)
    if checked.shape != (n_rows,):
        raise InputError(f"sample_weight needs the shape ({n_rows},), got {checked.shape}.")
    if not np.isfinite(checked).all() or (checked < 0).any():
        raise InputError("sample_weight needs finite numbers of at least 0.")
    if not checked.any():
        raise InputError("Every sample_weight is zero: no row has any weight to learn from.")
    return checked


def _like(answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Answers with the labels' own type, so that 1 and 1.0 are equal."""
    return answer.astype(truth.dtype) if truth.dtype != object and answer.dtype != truth.dtype else answer
