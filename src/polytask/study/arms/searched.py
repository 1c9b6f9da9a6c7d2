"""The network that a search over sharing, balancing and optimiser finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from polytask.balancing import registry as balancers
from polytask.models.sharing import registry as sharings
from polytask.study.arm import Arm, FittedArm, FoldData
from polytask.study.inner import why_not_divide
from polytask.study.search import fit_searched, need_optuna
from polytask.study.space import Space, searched_names

__all__ = ["Searched"]


class Searched(Arm):
    """One network for all tasks, as a search over sharing, ratio, balancer, task weights and optimiser finds it.

    The search sees training rows only: it divides them once more, three quarters to train and a quarter to judge.
    What it finds is trained on all of them, and chosen and tested like any other arm.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Raises:
        MissingExtraError: If Optuna is not installed.

    References:
        Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019.
    """

    role: ClassVar[str] = "joint"
    reads_sources: ClassVar[bool] = True

    def __init__(self, name: str):
        super().__init__(name)
        need_optuna(f"The arm {name!r}")

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One network for all tasks, found by a search over sharing, balancer and optimiser inside the fold."

    def why_not(self, fold: FoldData) -> str:
        """There must be something to share, and rows to judge by."""
        return "there is one task only, so nothing is learned jointly" if len(fold.tasks) < 2 else why_not_divide(fold)

    def fit(self, fold: FoldData, settled: Mapping[str, Any] | None = None) -> FittedArm:
        """Search, and train what was found."""
        return fit_searched(
            self.name, fold, settled, lambda f: Space(f, searched_names(sharings), searched_names(balancers))
        )
