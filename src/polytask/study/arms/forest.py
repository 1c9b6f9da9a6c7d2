"""A random forest for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from polytask.bundle import Member
from polytask.bundle.columns import columns_of
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.forests import SMOOTHING, TREES, choice_of, kind_of, options_of, stripped
from polytask.study.plain import estimators, rows_of, served, why_not_serve
from polytask.trees import JointForest, JointForestCV

__all__ = ["Forest"]

_GRID: dict[str, Any] = {"leaves": (1, 3, 10), "features": ("sqrt", 0.4), "splits": ("best",)}


_SORTS = ("number", "rate", "classes")


class Forest(Arm):
    """Random forests of scikit-learn's trees, one per task, leaf size and inputs per split tuned by out-of-bag errors.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Note:
        For each column it costs up to six forests of 100 trees to tune, and two of 200 trees, without and with the
        validation rows; nothing is shared between tasks. The shares of classes are mixed with a little of equal ones,
        as if one more tree knew nothing. Quantile tasks are left out; ``boosting`` has them.

    References:
        Breiman, Random Forests, Machine Learning 45, 2001.
    """

    role: ClassVar[str] = "outsider"
    is_per_task: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One random forest per task (scikit-learn's trees, tuned by out-of-bag errors)."

    def why_not(self, fold: FoldData) -> str:
        """There must be a task that it can serve."""
        return why_not_serve(fold, _SORTS)

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Tune on the training rows, and learn once more with the validation rows."""
        tasks = served(fold, _SORTS)
        train, both = fold.matrix("train"), fold.matrix("both")
        first, last, found = [], [], dict(settled or {})
        for task in tasks:
            for column in columns_of(task):
                kinds = {column.key: kind_of(column.what, column.n_classes)}
                key = f"choice {column.key}"
                if settled is None:
                    rows = rows_of(fold, train, column, "train")
                    search = JointForestCV(kinds, n_estimators=TREES, **_GRID, n_jobs=-1, random_state=fold.seed).fit(
                        rows[0], {column.key: rows[1]}
                    )
                    found[key] = choice_of(search.best_params_, _GRID)
                    first.append(Member(stripped(search.best_forest_), [column], SMOOTHING))
                options = options_of(found.get(key, 0.0), _GRID)
                rows = rows_of(fold, both, column, "both")
                forest = JointForest(kinds, n_estimators=TREES, **options, n_jobs=-1, random_state=fold.seed)
                last.append(Member(stripped(forest.fit(rows[0], {column.key: rows[1]})), [column], SMOOTHING))
        models = [estimators(fold, tasks, last)]
        return FittedArm(models, [estimators(fold, tasks, first)] if first else models, found)
