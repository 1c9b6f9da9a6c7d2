"""The network that a search over sharing, balancing and optimiser finds."""

from __future__ import annotations

from polytask.balancing import registry as balancers
from polytask.models.sharing import registry as sharings
from polytask.study.arm import FoldData
from polytask.study.search import SearchArm
from polytask.study.space import Space, searched_names

__all__ = ["Searched"]


class Searched(SearchArm):
    """One network for all tasks, as a search over sharing, ratio, balancer, task weights and optimiser finds it.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.

    Raises:
        MissingExtraError: If Optuna is not installed.

    Note:
        It costs 50 trainings by default, each on three quarters of a fold's training rows, and one on all of them, in
        every fold unless what the first fold found is used in the others. With more than 16 tasks, balancers that need
        a gradient of each task are left out. Left out with one task.

    References:
        Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019.
    """

    @property
    def words(self) -> str:
        """What the arm is."""
        return "One network for all tasks, found by a search over sharing, balancer and optimiser inside the fold."

    def space(self, fold: FoldData) -> Space:
        """All that says what it tries."""
        return Space(fold, searched_names(sharings), searched_names(balancers))
