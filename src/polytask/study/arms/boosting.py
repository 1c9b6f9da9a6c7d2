"""Gradient-boosted trees, one model for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from polytask.bundle import Member
from polytask.bundle.columns import Column, columns_of
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.plain import Rows, estimators, known_classes, rows_of, served, why_not_serve

__all__ = ["Boosting"]

_CANDIDATES: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 20},
    {"learning_rate": 0.05, "max_leaf_nodes": 15, "min_samples_leaf": 5},
    {"learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 20},
)
_BINS = 255
_MOST = 500
_PATIENCE = 20
_WITHOUT_VALIDATION = 100


_SORTS = ("number", "rate", "classes", "quantile")


class Boosting(Arm):
    """Scikit-learn's histogram-based gradient-boosted trees, one model per task, tuned and stopped early by validation.

    Three sizes of trees are tried; the best one learns once more, with the validation rows, for as many rounds as were
    best.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Note:
        For each column it costs three tuning trainings of at most 500 rounds each, stopped after 20 rounds without
        gain, and one last training; with no validation rows it is one training of 100 rounds. Nothing is shared between
        tasks. It reads numbers and codes, no files of pixels or waves. Where a category has more than 255 codes, all
        codes are split by their order.

    References:
        Ke et al., LightGBM: A Highly Efficient Gradient Boosting Decision Tree, NeurIPS 2017.
    """

    role: ClassVar[str] = "outsider"
    is_per_task: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """What the arm is."""
        return "Gradient-boosted trees, one model per task (scikit-learn's histogram-based ones, tuned by validation)."

    def why_not(self, fold: FoldData) -> str:
        """There must be a task that it can serve."""
        return why_not_serve(fold, _SORTS)

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Tune, and learn once more with the validation rows."""
        tasks = served(fold, _SORTS)
        train, both = fold.matrix("train"), fold.matrix("both")
        validation = fold.matrix("validation") if fold.has_validation else train[:0]
        # Scikit-learn takes no category of more codes than bins; all codes are then split by their order.
        n_codes = len(fold.cardinalities) if max(fold.cardinalities, default=0) <= _BINS else 0
        first, last, found = [], [], dict(settled or {})
        for task in tasks:
            for column in columns_of(task):
                loss = _loss(column, getattr(task, "objective", "squared"))
                maker = _Maker(column, loss, train.shape[1], n_codes, fold.seed)
                rows = rows_of(fold, train, column, "train")
                held_out = rows_of(fold, validation, column, "validation") if fold.has_validation else None
                if held_out is not None and column.what == "classes":
                    held_out = known_classes(held_out, np.unique(rows[1]))
                if settled is None:
                    tuned = maker.tune(rows, held_out, found)
                    first.append(Member(tuned, [column]))
                size = int(found.get(f"choice {column.key}", 0))
                rounds = found.get(f"rounds {column.key}", _WITHOUT_VALIDATION)
                last.append(Member(maker.make(size, round(rounds)).fit(*rows_of(fold, both, column, "both")), [column]))
        models = [estimators(fold, tasks, last)]
        return FittedArm(models, [estimators(fold, tasks, first)] if first else models, found)


class _Maker:
    """Makes and tunes the trees of one column."""

    def __init__(self, column: Column, loss: dict[str, Any], n_inputs: int, n_codes: int, seed: int):
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        self.column = column
        self.cls = HistGradientBoostingClassifier if column.what == "classes" else HistGradientBoostingRegressor
        codes = list(range(n_inputs - n_codes, n_inputs))
        self.options = {**loss, "categorical_features": codes or None, "random_state": seed}

    def make(self, size: int, rounds: int, **options: Any) -> Any:
        return self.cls(
            **self.options, **_CANDIDATES[size], max_iter=max(rounds, 1), **{"early_stopping": False, **options}
        )

    def tune(self, rows: Rows, held_out: Rows | None, found: dict[str, float]) -> Any:
        """The best candidate on the validation rows; what it settles goes into ``found``."""
        key = self.column.key
        if held_out is None or len(held_out[1]) < 2:
            found[f"choice {key}"], found[f"rounds {key}"] = 0.0, float(_WITHOUT_VALIDATION)
            return self.make(0, _WITHOUT_VALIDATION).fit(*rows)
        best: Any = None
        best_score = -np.inf
        for size in range(len(_CANDIDATES)):
            made = self.make(size, _MOST, early_stopping=True, n_iter_no_change=_PATIENCE)
            made.fit(*rows, X_val=held_out[0], y_val=held_out[1])
            scores = np.asarray(made.validation_score_)
            if best is None or scores.max() > best_score:
                best, best_score = made, float(scores.max())
                found[f"choice {key}"], found[f"rounds {key}"] = float(size), float(max(int(scores.argmax()), 1))
        return best


def _loss(column: Column, objective: str) -> dict[str, Any]:
    if column.what == "rate":
        return {"loss": "poisson"}
    if column.what == "quantile":
        return {"loss": "quantile", "quantile": column.quantile}
    if column.what == "number" and objective != "squared":
        return {"loss": "absolute_error"}
    return {}
