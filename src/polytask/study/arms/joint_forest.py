"""One forest for all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from polytask.bundle import Member
from polytask.bundle.columns import columns_of
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.forests import SMOOTHING, TREES, choice_of, kind_of, options_of, stripped
from polytask.study.plain import estimators, served
from polytask.trees import JointForest as Trees
from polytask.trees import JointForestCV

__all__ = ["JointForest"]

_GRID: dict[str, Any] = {"leaves": (1, 3, 10), "features": (1.0, 0.4), "splits": ("random", "best")}


class JointForest(Arm):
    """One forest whose splits serve all tasks at once, missing labels filled out of bag while splits are sought.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Note:
        It costs up to twelve forests of 100 trees to tune, and two of 200 trees, without and with the validation rows,
        for all tasks together. Tasks of other kinds than numbers, counts and classes are left out, as is the arm with
        fewer than two tasks. Where tasks depend on different inputs, a forest for each task (``forest``) can split by
        these.
    """

    role: ClassVar[str] = "forest"

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One forest whose splits serve all tasks (polytask.trees, tuned by out-of-bag errors)."

    def why_not(self, fold: FoldData) -> str:
        """There must be something to share."""
        if len(served(fold, _SORTS)) < 2:
            return "it takes two tasks of numbers, counts or classes"
        return ""

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Tune on the training rows, and learn once more with the validation rows."""
        tasks = served(fold, _SORTS)
        columns = [column for task in tasks for column in columns_of(task)]
        kinds = {column.key: kind_of(column.what, column.n_classes) for column in columns}
        options: dict[str, Any] = {"n_estimators": TREES, "n_jobs": -1, "random_state": fold.seed}

        def labels(part: str) -> dict[str, np.ndarray]:
            return {column.key: fold.labels(column, part) for column in columns}

        found = dict(settled or {})
        first = []
        if settled is None:
            search = JointForestCV(kinds, **_GRID, **options).fit(fold.matrix("train"), labels("train"))
            found["choice"] = choice_of(search.best_params_, _GRID)
            first = [Member(stripped(search.best_forest_), columns, SMOOTHING)]
        forest = Trees(kinds, **options_of(found.get("choice", 0.0), _GRID), **options)
        last = [Member(stripped(forest.fit(fold.matrix("both"), labels("both"))), columns, SMOOTHING)]
        models = [estimators(fold, tasks, last)]
        return FittedArm(models, [estimators(fold, tasks, first)] if first else models, found)


_SORTS = ("number", "rate", "classes")
