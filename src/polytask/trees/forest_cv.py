"""A joint forest whose leaf size, inputs tried and kind of split are chosen by out-of-bag score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from polytask.errors import RecipeError
from polytask.trees.forest import JointForest
from polytask.trees.model import TreeModel
from polytask.trees.targets import mean_score

__all__ = ["JointForestCV"]

_SEARCH_TREES = 100


def _inputs_tried(max_features: float | str | None, n_inputs: int) -> Any:
    """How many inputs scikit-learn tries at a split, so that two names for one number are tried once."""
    if isinstance(max_features, str):
        count = {"sqrt": np.sqrt(n_inputs), "log2": np.log2(max(n_inputs, 1))}.get(max_features)
        return max_features if count is None else max(1, int(count))
    if max_features is None:
        return n_inputs
    return max(1, int(max_features * n_inputs)) if isinstance(max_features, float) else max_features


class JointForestCV(TreeModel):
    r"""A joint forest with leaf size, inputs tried and kind of split chosen by out-of-bag score.

    For every combination one forest (of 100 trees at most) is grown on all rows and scored on the labels that each
    tree has not seen: the mean over tasks, by their weights, of the share of variance explained. There are no
    folds. The best combination is grown with all the trees.

    With weights :math:`w_t` and the share of variance :math:`R^2_t` of each task's out-of-bag labels that is
    explained, the score is

    .. math:: \frac{\sum_t w_t R^2_t}{\sum_t w_t} .

    Args:
        kinds: As in :class:`JointForest`.
        task_weights: As in :class:`JointForest`; they also weigh the tasks' scores.
        n_estimators: Number of trees of the final forest.
        leaves: Values of ``min_samples_leaf`` to try.
        features: Values of ``max_features`` to try.
        splits: Values of ``splits`` to try.
        missing: Values of ``missing`` to try. More than one matters only with missing labels.
        n_jobs: Threads.
        random_state: Seed, the same for every combination, so that they are compared on the same bags.

    Attributes:
        best_forest_: The fitted :class:`JointForest`.
        tasks_: As in :class:`JointForest`, like ``kinds_`` and ``classes_``.
        best_params_: Its options that were chosen.
        best_score_: Out-of-bag score of the choice, among those compared.
        results_: Options, ``oob_score`` and ``oob_task_scores`` of every combination.
        task_importances_: Share of each input, for each task. [tasks, inputs]
        feature_importances_: Share of each input for all tasks. [inputs]

    Raises:
        RecipeError: If there is nothing to try or an option is unknown.
        TargetError: As in :class:`JointForest`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(150, 3))
        >>> Y = X[:, [0, 1]] + 2 * rng.normal(size=(150, 2))    # much noise: large leaves are better
        >>> search = JointForestCV(n_estimators=50, leaves=(1, 10), splits=("best",), random_state=0).fit(X, Y)
        >>> search.best_params_["min_samples_leaf"]
        10

    Note:
        The best of many scores flatters itself a little; estimate the error of the whole procedure on rows that it
        has not seen. With missing labels the combinations share this optimism alike. It costs as many forests of 100
        trees as there are combinations, 30 by default, and one with all the trees; they are grown one after the other,
        and the best is kept.

    References:
        Breiman. Out-of-bag estimation. Technical report, University of California, Berkeley, 1996.
    """

    def __init__(
        self,
        kinds: Any = None,
        *,
        task_weights: Any = None,
        n_estimators: int = 200,
        leaves: Sequence[float] = (1, 2, 5, 10, 20),
        features: Sequence[float | str | None] = (1.0, 0.5, "sqrt"),
        splits: Sequence[str] = ("random", "best"),
        missing: Sequence[str] = ("oob",),
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.kinds = kinds
        self.task_weights = task_weights
        self.n_estimators = n_estimators
        self.leaves = leaves
        self.features = features
        self.splits = splits
        self.missing = missing
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> JointForestCV:
        """Choose by out-of-bag score, then grow. The arguments are those of :meth:`JointForest.fit`."""
        seed = self._seed()
        self.results_: list[dict[str, Any]] = []
        best: JointForest | None = None
        self.best_score_ = float("nan")
        for leaf, features, splits, missing in self._grid(X):
            options = {"min_samples_leaf": leaf, "max_features": features, "splits": splits, "missing": missing}
            forest = self._forest(min(self.n_estimators, _SEARCH_TREES), seed, options).fit(X, y, sample_weight)
            score = self._score(forest)
            self.results_.append({**options, "oob_score": score, "oob_task_scores": forest.oob_task_scores_})
            if best is None or score > self.best_score_ or np.isnan(self.best_score_):
                best, self.best_params_, self.best_score_ = forest, options, score
        if best is None or best.n_estimators < self.n_estimators:
            best = self._forest(self.n_estimators, seed, self.best_params_).fit(X, y, sample_weight)
        self.best_forest_ = best
        self._store(best._code(), best.form_)
        self.n_features_in_: int = best.n_features_in_
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
        return self

    @property
    def task_importances_(self) -> NDArray[np.float64]:
        """Share of each input, for each task."""
        return self._fitted().task_importances_

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """Share of each input for all tasks."""
        return self._fitted().feature_importances_

    def _fitted(self) -> JointForest:
        check_is_fitted(self, "best_forest_")
        return self.best_forest_

    def _means(self, X: Any) -> NDArray[np.float64]:
        return self._fitted()._means(X)

    def _seed(self) -> int:
        """One seed for all forests, so that every combination sees the same bags."""
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _grid(self, X: Any) -> list[tuple[float, float | str | None, str, str]]:
        for name in ("leaves", "features", "splits", "missing"):
            values = getattr(self, name)
            if isinstance(values, str) or not hasattr(values, "__len__") or len(values) == 0:
                raise RecipeError(f"{name} must be a sequence of one or more values to try; got {values!r}.")
        shape = np.asarray(X).shape
        n_inputs = shape[1] if len(shape) == 2 else 1  # any other shape is an error that the forest explains
        features = {_inputs_tried(value, n_inputs): value for value in reversed(self.features)}
        return list(product(self.leaves, reversed(features.values()), self.splits, self.missing))

    def _forest(self, n_estimators: int, seed: int, options: dict[str, Any]) -> JointForest:
        fixed = {"task_weights": self.task_weights, "n_jobs": self.n_jobs, "random_state": seed}
        return JointForest(self.kinds, n_estimators=n_estimators, **fixed, **options)

    def _score(self, forest: JointForest) -> float:
        return mean_score(forest.oob_task_scores_, self._read_task_weights(self.task_weights, forest.tasks_))
