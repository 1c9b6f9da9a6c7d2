"""A forest whose splits serve all targets at once, with missing labels and mixed kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from polytask.errors import RecipeError
from polytask.trees.growing import FILLS, SPLITS, Grown, Labelled, Plan, grow, normalised_importances
from polytask.trees.model import TreeModel, used_rows
from polytask.trees.nodes import check_trees
from polytask.trees.targets import TargetCode, explained, learn_code, mean_score

__all__ = ["JointForest"]

Floats = NDArray[np.float64]


class JointForest(TreeModel):
    r"""One forest for several targets, some of which may be missing in some rows.

    Each tree is grown by scikit-learn on all targets together: a split :math:`s` of a node maximises

    .. math:: \sum_t w_t \, \Delta_s \operatorname{Var}(z_t), \qquad \operatorname{Var}(z_t) = 1 \text{ at the root},

    where :math:`z_t` is the standardised target of task :math:`t`, or its one-hot classes divided by one number.
    For one classification task this is the Gini criterion: the summed variance of the one-hot classes is the Gini
    impurity, so the trees are those of scikit-learn's classifiers but for ties. Where a label is missing, an
    out-of-bag prediction stands in while splits are sought. Leaf values, out-of-bag predictions and importances
    come from observed labels only; a leaf with fewer observed labels of a task than ``min_samples_leaf`` speaks
    with the mean of its nearest ancestor that has enough.

    Args:
        kinds: ``regression``, ``binary`` or ``multiclass`` for each task: a mapping from task to kind, or a
            sequence. A kind that is not given is inferred: text and booleans are classes, a column of zeros and
            ones is binary, other numbers are a regression.
        task_weights: How much each task counts when splits are sought: a mapping, or a sequence; 1 where not given.
            A task of weight 0 does not shape the trees but is predicted.
        n_estimators: Number of trees.
        splits: ``random`` (one random threshold for each input tried: extremely randomised trees) or ``best``
            (random forest).
        min_samples_leaf: Fewest rows in a leaf, and fewest observed labels behind a leaf value of a task. A count,
            or a share of the rows below 1. It matters much on noisy targets: see ``JointForestCV``.
        max_features: Inputs tried at each split, as in scikit-learn.
        bootstrap: Grow each tree on rows drawn with replacement; without it there are no out-of-bag predictions.
        missing: What stands for a missing label while splits are sought: ``oob`` (a prediction) or ``mean`` (the
            task's mean; better only where labels are mostly noise or predicted from very few).
        n_jobs: Threads.
        random_state: Seed.

    Attributes:
        tasks_: Names of the tasks; positions if the targets have no names.
        kinds_: Kind of each task.
        classes_: Classes of each task; empty for a regression.
        forest_: The scikit-learn forest.
        feature_importances_: Share of each input in the fall of the (weighted) variance, summing to one. [inputs]
        task_importances_: The same for each task alone. [tasks, inputs]
        oob_mean_: Out-of-bag means: numbers and class probabilities in the targets' units. [rows, outputs]
        oob_prediction_: Out-of-bag predictions in the form of the targets.
        oob_task_scores_: Share of variance explained out of bag, for each task. [tasks]
        oob_score_: Their mean over tasks.

    Raises:
        TargetError: If a task has no label, one class only, or an infinite label.
        InputError: If the inputs cannot be read as numbers or have another number of columns than in training.
        RecipeError: If an option is unknown.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 4))
        >>> size = X[:, 0] + 0.1 * rng.normal(size=200)
        >>> size[::2] = np.nan                               # every other label is missing
        >>> shape = np.where(X[:, 0] > 0, "round", "flat")
        >>> forest = JointForest(n_estimators=50, random_state=0).fit(X, {"size": size, "shape": shape})
        >>> forest.kinds_
        ['regression', 'binary']
        >>> forest.predict(X[:2])["shape"].tolist()
        ['round', 'flat']
        >>> forest.predict_proba(X)["shape"].shape
        (200, 2)

    Note:
        Inputs may have NaN, which scikit-learn's trees send to the better side of each split. Categorical inputs
        are given as codes (``OrdinalEncoder``): trees split codes by order, which is good enough for few categories
        when leaves are small. Rows without any label, or of weight zero, take no part in training and are
        out of bag for every tree. Importances favour inputs of many distinct values.

        With missing labels and ``missing="oob"`` the stand-ins were made with the labels of rows that are out of bag
        later. They can only move splits, so the out-of-bag score stays near that of new rows, pure noise included.
        Cost: one forest, or two with missing labels, and about a third more for the statistics.

        Tasks that are unrelated, and wide tables, may be served better by a forest each: compare.

    References:
        Breiman. Random Forests. Machine Learning 45, 2001. Geurts, Ernst, Wehenkel. Extremely randomized trees.
        Machine Learning 63, 2006. Kocev, Vens, Struyf, Dzeroski. Tree ensembles for predicting structured outputs.
        Pattern Recognition 46, 2013 (multi-target forests).
    """

    def __init__(
        self,
        kinds: Any = None,
        *,
        task_weights: Any = None,
        n_estimators: int = 200,
        splits: str = "random",
        min_samples_leaf: float = 1,
        max_features: float | str | None = 1.0,
        bootstrap: bool = True,
        missing: str = "oob",
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.kinds = kinds
        self.task_weights = task_weights
        self.n_estimators = n_estimators
        self.splits = splits
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.bootstrap = bootstrap
        self.missing = missing
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> JointForest:
        """Grow the forest.

        Args:
            X: Inputs [rows, inputs]; NaN where missing.
            y: Targets: a vector, a matrix [rows, tasks], a mapping of columns or a data frame; NaN or None where a
                label is missing.
            sample_weight: A weight for each row.
        """
        plan, X = self._plan(), self._read_inputs(X, reset=True)
        columns, weight = self._read_targets(y, len(X)), self._read_weight(sample_weight, X)
        used = used_rows(columns, weight)
        code = learn_code(columns.take(used), self.kinds, weight[used])
        self._store(code, columns.form)
        is_even = bool(np.all(weight[used] == weight[used][0]))
        stretch = np.sqrt(self._read_task_weights(self.task_weights, code.tasks))[code.owner]
        outputs = code.encode(columns)
        rows = Labelled(X[used], outputs[used], code.owner, stretch, None if is_even else weight[used])
        self._learn(grow(plan, rows), code, X, used)
        if self.bootstrap:
            self.oob_task_scores_ = explained(outputs, self._oob_outputs(code), code.owner, weight)
            self.oob_score_ = mean_score(self.oob_task_scores_)
        return self

    def check_trees(self) -> None:
        """Check the trees' nodes; to be called after loading a forest from a file that may be damaged or forged.

        Raises:
            BundleError: If a node leads to a node, an input or a value that is not there.
        """
        check_is_fitted(self, "forest_")
        check_trees(self.forest_.estimators_, self.n_features_in_, len(self.output_task_))

    @property
    def oob_prediction_(self) -> Any:
        """Out-of-bag predictions in the form of the targets and the order of the training rows, without their index.

        Missing for a row that is in every bag.
        """
        return self._answer(self._oob_mean())

    @property
    def oob_proba_(self) -> Any:
        """Out-of-bag class probabilities, in the form of :meth:`predict_proba`."""
        return self._probabilities(self._oob_mean())

    def _plan(self) -> Plan:
        if self.splits not in SPLITS:
            raise RecipeError(f"splits must be one of {', '.join(SPLITS)}; got {self.splits!r}.")
        if self.missing not in FILLS:
            raise RecipeError(f"missing must be one of {', '.join(FILLS)}; got {self.missing!r}.")
        names = ("n_estimators", "min_samples_leaf", "max_features", "bootstrap", "n_jobs", "random_state")
        return Plan(self.splits, self.missing, {name: getattr(self, name) for name in names})

    def _learn(self, grown: Grown, code: TargetCode, X: NDArray[np.float32], used: NDArray[np.bool_]) -> None:
        self.forest_ = grown.forest
        self.task_importances_, self.feature_importances_ = normalised_importances(
            grown.falls, self._read_task_weights(self.task_weights, code.tasks)
        )
        if grown.oob is not None:
            self.oob_mean_ = np.empty((len(X), len(code.owner)))
            self.oob_mean_[used] = code.means(grown.oob)
            if not used.all():
                self.oob_mean_[~used] = self._forest_means(X[~used])

    def _means(self, X: Any) -> Floats:
        check_is_fitted(self, "forest_")
        return self._forest_means(self._read_inputs(X, reset=False))

    def _forest_means(self, X: NDArray[np.float32]) -> Floats:
        return self._code().means(self.forest_.predict(X).reshape(len(X), -1))

    def _oob_mean(self) -> Floats:
        check_is_fitted(self, "forest_")
        if not hasattr(self, "oob_mean_"):
            raise AttributeError("There are no out-of-bag predictions without bootstrap; set bootstrap=True.")
        return self.oob_mean_

    def _oob_outputs(self, code: TargetCode) -> Floats:
        return np.asarray((self.oob_mean_ - code.center) / code.scale)
