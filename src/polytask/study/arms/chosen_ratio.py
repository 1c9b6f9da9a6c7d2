"""One network for all tasks, which shares as much as cross-validation inside the fold says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from polytask.errors import RecipeError
from polytask.models.sharing import registry as sharings
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.inner import inner_errors, inner_folds, why_not_divide
from polytask.study.networks import best_epochs, curves_of, train
from polytask.training.building import network_of
from polytask.training.run import Plan

__all__ = ["ChosenRatio"]

_RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
_FOLDS = 3


class ChosenRatio(Arm):
    """One network for all tasks, its sharing ratio chosen by cross-validation on the training rows of the fold.

    Each ratio is trained on three divisions of the training rows; the one with the smallest mean relative error over
    tasks and divisions is trained on all of them. Of ratios that split the encoder at the same place one is tried.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.
        kind: A sharing with a ratio; ``hard`` if left out.

    Raises:
        RecipeError: If the sharing has no ratio.

    Note:
        It costs up to 16 trainings: five ratios on three divisions of the training rows, and the last one on all of
        them; ``joint`` has one. The ratio is one number for all tasks: which tasks share is the matter of ``grouped``.
        Left out with one task, or where the training rows cannot be divided.
    """

    role: ClassVar[str] = "joint"
    reads_sources: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("kind",)

    def __init__(self, name: str, kind: str = "hard"):
        super().__init__(name)
        if "ratio" not in inspect.signature(sharings.load(kind)).parameters:
            raise RecipeError(f"{name!r}: the sharing {kind!r} has no ratio to choose; hard, for one, has.")
        self.kind = kind

    @property
    def words(self) -> str:
        """What the arm is."""
        return f"One network for all tasks, {self.kind} sharing, its ratio cross-validated inside the fold."

    def why_not(self, fold: FoldData) -> str:
        """There must be something to share, and rows to choose by."""
        one = "there is one task only, so nothing is learned jointly"
        return one if len(fold.tasks) < 2 else why_not_divide(fold, _FOLDS)

    def fit(self, fold: FoldData, settled: Mapping[str, Any] | None = None) -> FittedArm:
        """Choose the ratio, and train with it."""
        found: dict[str, Any] = {}
        if settled is None:
            found = {"curve": self._curve(fold)}
            ratio = found["curve"]["chosen"]
        else:
            ratio = settled["choice ratio"]
        fitted = train(fold, self._plan(fold.plan, ratio), self.name, (settled or {}).get("epochs"))
        names = [task.name for task in fold.tasks]
        return FittedArm(
            fitted.bundle.networks,
            settled={"choice ratio": ratio, "epochs": best_epochs(fitted)},
            curves=curves_of(fitted.history, names),
            search=found,
            notes=fitted.notes,
        )

    def _curve(self, fold: FoldData) -> dict[str, Any]:
        """Error over ratio: its mean and standard deviation over the inner folds."""
        ratios = self._different(fold)
        errors = []
        for inner in inner_folds(fold, _FOLDS):
            fitted = [train(inner, self._plan(inner.plan, r), f"{self.name}, ratio {r:g}", None) for r in ratios]
            errors.append([np.mean(list(inner_errors(inner, one.bundle.networks).values())) for one in fitted])
        table = np.array(errors)
        means = table.mean(0)
        # Of equal ones the largest, which has the fewest parameters.
        best = max(i for i, mean in enumerate(means) if mean == means.min())
        return {
            "ratio": ratios,
            "mean": means.round(6).tolist(),
            "spread": table.std(0, ddof=1).round(6).tolist(),
            "chosen": ratios[best],
            "folds": _FOLDS,
        }

    def _different(self, fold: FoldData) -> list[float]:
        """The ratios that give networks of different sizes."""
        found: dict[tuple[int, ...], float] = {}
        for ratio in _RATIOS:
            try:
                _, model = network_of(fold.prepared, self._plan(fold.plan, ratio))
            except RecipeError:
                continue  # a sharing may need a stage above its split
            found.setdefault(tuple(model.sharing.count_parameters().values()), ratio)
        return list(found.values())

    def _plan(self, plan: Plan, ratio: float) -> Plan:
        options = plan.sharing_options if plan.sharing == self.kind else {}
        return replace(plan, sharing=self.kind, sharing_options={**options, "ratio": ratio})
