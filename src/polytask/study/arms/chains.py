"""Chains: each task's model also reads the answers for the tasks before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from polytask.bundle import Member
from polytask.bundle.columns import Column
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.plain import estimators, served
from polytask.tasks.task import Task

__all__ = ["Chains"]

_ROUNDS = (50, 150)
_FEWEST = 30
"""Fewest training rows with all labels of a chain."""


class Chains(Arm):
    """Scikit-learn's chains of boosted trees: one of the numeric tasks, one of the binary ones.

    A chain learns from rows that have all its labels; with fewer than 30 of them it is left out.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Note:
        The paper averages chains in random orders; here there is one chain for each kind, in the order of the tasks, so
        that the result depends on that order. It costs three models for each task: a chain is trained with 50 and with
        150 rounds, and once more with the validation rows. Not for tasks that are labelled in different rows, because
        rows with a missing label are left out.

    References:
        Read et al., Classifier Chains for Multi-label Classification, Machine Learning 85, 2011.
    """

    role: ClassVar[str] = "outsider"

    @property
    def words(self) -> str:
        """What the arm is."""
        return "Chains of boosted trees: the model of each task also reads the predictions for the tasks before it."

    def why_not(self, fold: FoldData) -> str:
        """It takes two tasks of numbers or two of yes and no, and rows with all their labels."""
        if self._chains(fold):
            return ""
        return f"it takes two tasks, both regression or both binary, and {_FEWEST} training rows with all their labels"

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Tune the number of rounds by validation, and learn once more with the validation rows."""
        found = dict(settled or {})
        matrices = {part: fold.matrix(part) for part in ("train", "both")}
        tasks: list[Task] = []
        first, last = [], []
        for what, (mine, columns) in self._chains(fold).items():
            tasks += mine
            key = f"choice {what}"
            if settled is None:
                found[key], tuned = self._tune(fold, what, columns, matrices["train"])
                first.append(Member(tuned, columns))
            rounds = _ROUNDS[int(found.get(key, 0))]
            last.append(
                Member(_chain(what, rounds, fold.seed).fit(*_rows(fold, matrices["both"], columns, "both")), columns)
            )
        models = [estimators(fold, tasks, last)]
        return FittedArm(models, [estimators(fold, tasks, first)] if first else models, found)

    def _chains(self, fold: FoldData) -> dict[str, tuple[list[Task], list[Column]]]:
        """Tasks and columns of each chain, by what they answer."""
        found = {}
        for what in ("number", "classes"):
            tasks = [task for task in served(fold, (what,)) if task.kind in ("regression", "binary")]
            columns = [column for column in fold.columns if column.task in {task.name for task in tasks}]
            if len(tasks) > 1:
                labels = np.column_stack([fold.labels(column, "train") for column in columns])
                whole = labels[~np.isnan(labels).any(1)]
                if len(whole) >= _FEWEST and all(len(np.unique(values)) > 1 for values in whole.T):
                    found[what] = tasks, columns
        return found

    def _tune(self, fold: FoldData, what: str, columns: list[Column], train: np.ndarray) -> tuple[float, Any]:
        rows = _rows(fold, train, columns, "train")
        fitted = [_chain(what, rounds, fold.seed).fit(*rows) for rounds in _ROUNDS]
        if not fold.has_validation:
            return 0.0, fitted[0]
        held_out, labels = _rows(fold, fold.matrix("validation"), columns, "validation")
        if not len(labels):
            return 0.0, fitted[0]
        errors = [_error(what, chain, held_out, labels) for chain in fitted]
        best = int(np.argmin(errors))
        return float(best), fitted[best]


def _chain(what: str, rounds: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.multioutput import ClassifierChain, RegressorChain

    options: dict[str, Any] = {"max_iter": rounds, "early_stopping": False, "random_state": seed}
    if what == "number":
        return RegressorChain(HistGradientBoostingRegressor(**options))
    return ClassifierChain(HistGradientBoostingClassifier(**options))


def _rows(fold: FoldData, matrix: np.ndarray, columns: list[Column], part: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have all labels of a chain."""
    labels = np.column_stack([fold.labels(column, part) for column in columns])
    whole = ~np.isnan(labels).any(1)
    return matrix[whole], labels[whole]


def _error(what: str, chain: Any, inputs: np.ndarray, labels: np.ndarray) -> float:
    if what == "number":
        return float(((chain.predict(inputs) - labels) ** 2).mean())
    return float(((np.asarray(chain.predict_proba(inputs)) - labels) ** 2).mean())
