"""Boosted trees of CatBoost whose splits serve all regressions at once, some labels missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from polytask.errors import MissingExtraError, RecipeError
from polytask.trees.model import TreeModel, used_rows
from polytask.trees.targets import learn_code

__all__ = ["CatBoost"]

Floats = NDArray[np.float64]

_LOSS = "MultiRMSEWithMissingValues"


class CatBoost(TreeModel):
    r"""Boosted oblivious trees for several regressions at once, some of whose labels may be missing.

    An adapter to CatBoost, which minimises

    .. math:: \sum_t w_t \sum_{i : y_{it} \text{ observed}} (z_{it} - f_t(x_i))^2

    with :math:`z_t` the target of task :math:`t` standardised over its observed labels, so that no task is louder for
    its units. Every tree has splits common to all tasks and one value for each of them in a leaf.

    Args:
        task_weights: How much each task counts: a mapping from task to weight, or a sequence; 1 where not given. All
            above zero.
        n_estimators: Number of trees.
        learning_rate: Step of each tree.
        depth: Depth of the trees.
        options: Further settings of ``catboost.CatBoostRegressor``, under its names.
        n_jobs: Threads; ``None`` is all.
        random_state: Seed.

    Attributes:
        tasks_: Names of the tasks; positions if the targets have no names.
        kinds_: ``regression`` for each task.
        booster_: The fitted ``catboost.CatBoostRegressor``, in standardised units; ``None`` if nothing varies.
        stretch_: What its targets are multiplied by, the root of the task's weight; zero for a constant target.
        feature_importances_: CatBoost's share of each input, summing to one. [inputs]

    Raises:
        MissingExtraError: If CatBoost is not installed.
        TargetError: If a task has no label, an infinite one, or labels that are no numbers.
        InputError: If the inputs cannot be read as numbers or have another number of columns than in training.
        RecipeError: If CatBoost refuses an option.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> Y = np.column_stack([X[:, 0], X[:, 0] + X[:, 1]])
        >>> Y[::2, 1] = np.nan                                     # every other label is missing
        >>> model = CatBoost(n_estimators=200).fit(X, Y)           # doctest: +SKIP
        >>> model.predict(X).shape                                 # doctest: +SKIP
        (200, 2)

    Note:
        Needs ``pip install 'polytask[catboost]'``. The loss runs on processors only. A task with more labels counts
        for more, as the sum runs over labels; ``task_weights`` can even that out. For classes, importances per task
        and out-of-bag predictions use :class:`~polytask.trees.forest.JointForest`. Constant targets are answered by
        their constant. Not for bundles: CatBoost stores its models in a format of its own (``booster_.save_model``). A
        leaf has a value for each task, so that the trees' memory grows with :math:`2^{depth}` and with the number of
        tasks.

    References:
        Prokhorenkova, Gusev, Vorobev, Dorogush, Gulin. CatBoost: unbiased boosting with categorical features.
        NeurIPS 2018.
    """

    def __init__(
        self,
        *,
        task_weights: Any = None,
        n_estimators: int = 500,
        learning_rate: float = 0.05,
        depth: int = 6,
        options: Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.task_weights = task_weights
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.depth = depth
        self.options = options
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CatBoost:
        """Boost.

        Args:
            X: Inputs [rows, inputs]; NaN where missing.
            y: Targets: a vector, a matrix [rows, tasks], a mapping of columns or a data frame; NaN or None where a
                label is missing.
            sample_weight: A weight for each row.
        """
        booster, refusal = self._booster()
        inputs = self._read_inputs(X, reset=True)
        columns, weight = self._read_targets(y, len(inputs)), self._read_weight(sample_weight, inputs)
        used = used_rows(columns, weight)
        inputs, columns, weight = inputs[used], columns.take(used), weight[used]
        code = learn_code(columns, ["regression"] * len(columns.tasks), weight)
        stretch = np.sqrt(self._read_task_weights(self.task_weights, code.tasks))
        if not stretch.all():
            raise RecipeError(f"CatBoost needs task_weights above zero, got {self.task_weights!r}.")
        self._store(code, columns.form)
        self.booster_ = None
        self.feature_importances_ = np.zeros(inputs.shape[1])
        outputs = code.encode(columns)
        # CatBoost refuses constant targets, and inputs that are all constant: there the mean is the answer.
        self.stretch_ = np.where(_varies(outputs), stretch, 0.0)
        boosted = self.stretch_ > 0
        if boosted.any() and _varies(inputs).any():
            try:
                booster.fit(inputs, (outputs * stretch)[:, boosted], sample_weight=weight)
            except refusal as error:
                raise RecipeError(f"CatBoost cannot be grown with these options: {error}") from error
            self.booster_ = booster
            importances = np.asarray(booster.feature_importances_, dtype=np.float64)
            self.feature_importances_ = importances / (importances.sum() or 1.0)
        return self

    def _means(self, X: Any) -> Floats:
        check_is_fitted(self, "booster_")
        inputs = self._read_inputs(X, reset=False)
        outputs = np.zeros((len(inputs), len(self.tasks_)))
        if self.booster_ is not None:
            boosted = self.stretch_ > 0
            found = np.reshape(self.booster_.predict(inputs, thread_count=self._n_threads()), (len(inputs), -1))
            outputs[:, boosted] = found / self.stretch_[boosted]
        return self._code().means(outputs)

    def _booster(self) -> tuple[Any, type[Exception]]:
        """An unfitted ``CatBoostRegressor``, and the error by which CatBoost refuses an option."""
        try:
            from catboost import CatBoostError, CatBoostRegressor
        except ImportError as error:
            raise MissingExtraError("CatBoost", "catboost", "catboost") from error
        settings = {
            "n_estimators": self.n_estimators,
            "learning_rate": self.learning_rate,
            "depth": self.depth,
            "thread_count": self._n_threads(),
            "random_seed": int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)),
            "verbose": False,
            "allow_writing_files": False,
            **(self.options or {}),
        }
        try:
            return CatBoostRegressor(loss_function=_LOSS, **settings), CatBoostError
        except (CatBoostError, TypeError) as error:  # TypeError: an option that it does not have
            raise RecipeError(f"CatBoost cannot be grown with these options: {error}") from error

    def _n_threads(self) -> int:
        return -1 if self.n_jobs is None else int(self.n_jobs)


def _varies(table: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether a column has two distinct numbers."""
    low = np.where(np.isnan(table), np.inf, table).min(axis=0)
    high = np.where(np.isnan(table), -np.inf, table).max(axis=0)
    return np.asarray(high > low)
