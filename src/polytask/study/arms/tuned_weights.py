"""The rival of every balancer: fixed weights, tuned with as many trials."""

from __future__ import annotations

from dataclasses import replace

from polytask.study.arm import FoldData
from polytask.study.search import SearchArm
from polytask.study.space import Space

__all__ = ["TunedWeights"]


class TunedWeights(SearchArm):
    """One network for all tasks under fixed weights, found by a search with as many trials as ``searched`` has.

    The sharing is that of the study's recipe, its ratio and the optimiser are searched too. A balancer that does not
    beat this arm has only found weights that a search would have found.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Raises:
        MissingExtraError: If Optuna is not installed.

    Note:
        It costs as much as ``searched`` with the same number of trials: 50 trainings by default in a fold, and the last
        one. With more than 16 tasks there is no weight for each: the weights are one power of the numbers of labels.
        Left out with one task.

    References:
        Xin et al., Do Current Multi-Task Optimization Methods in Deep Learning Even Help?, NeurIPS 2022.
    """

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One network for all tasks, its fixed task weights found by a search inside the fold."

    def space(self, fold: FoldData) -> Space:
        """Weights, ratio and optimiser."""
        return Space(replace(fold, plan=replace(fold.plan, balancer="fixed", balancer_options={})), (), ())
