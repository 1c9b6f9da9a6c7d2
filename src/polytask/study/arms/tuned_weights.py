"""The rival of every balancer: fixed weights, tuned with as many trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.inner import why_not_divide
from polytask.study.search import fit_searched, need_optuna
from polytask.study.space import Space

__all__ = ["TunedWeights"]


class TunedWeights(Arm):
    """One network for all tasks under fixed weights, found by a search with as many trials as ``searched`` has.

    The sharing is that of the study's recipe, its ratio and the optimiser are searched too. A balancer that does not
    beat this arm has only found weights that a search would have found.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Raises:
        MissingExtraError: If Optuna is not installed.

    References:
        Xin et al., Do Current Multi-Task Optimization Methods in Deep Learning Even Help?, NeurIPS 2022.
    """

    role: ClassVar[str] = "joint"
    reads_sources: ClassVar[bool] = True

    def __init__(self, name: str):
        super().__init__(name)
        need_optuna(f"The arm {name!r}")

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One network for all tasks, its fixed task weights found by a search inside the fold."

    def why_not(self, fold: FoldData) -> str:
        """There must be something to weigh, and rows to judge by."""
        return "there is one task only, so there is nothing to weigh" if len(fold.tasks) < 2 else why_not_divide(fold)

    def fit(self, fold: FoldData, settled: Mapping[str, Any] | None = None) -> FittedArm:
        """Search, and train what was found."""
        return fit_searched(self.name, fold, settled, _weights_only)


def _weights_only(fold: FoldData) -> Space:
    fixed = replace(fold, plan=replace(fold.plan, balancer="fixed", balancer_options={}))
    return Space(fixed, (), ())
