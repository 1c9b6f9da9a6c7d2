"""How much may be spent on groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytask.affinity.grouping.score import Group
from polytask.errors import RecipeError

__all__ = ["GroupBudget"]


@dataclass(frozen=True)
class GroupBudget:
    """At most so many models, or at most so much cost, or both.

    A group costs 1 for its shared part and ``head_cost`` for every task in it beyond the first.

    Args:
        models: Largest number of groups; any if ``None``.
        cost: Largest total cost; any if ``None``.
        head_cost: What one more task in a group costs, in units of one model of a single task.

    Raises:
        RecipeError: If nothing is limited, or a limit is below one.
    """

    models: int | None = None
    cost: float | None = None
    head_cost: float = 0.0

    def __post_init__(self) -> None:
        if self.models is None and self.cost is None:
            raise RecipeError("A grouping needs a budget: a number of models, a total cost, or both.")
        for value in (self.models, self.cost):
            if value is not None and not value >= 1:
                raise RecipeError(f"A grouping needs a limit of at least one model, got {value!r}.")
        if not self.head_cost >= 0:
            raise RecipeError(
                f"One more task in a group cannot cost less than nothing; head_cost is {self.head_cost!r}."
            )

    def cost_of(self, groups: Sequence[Group]) -> float:
        """Total cost of groups."""
        return sum(self.group_cost(len(group.tasks)) for group in groups)

    def group_cost(self, n_tasks: int) -> float:
        """Cost of a group of so many tasks."""
        return 1.0 + self.head_cost * (n_tasks - 1)

    def most_models(self, n_tasks: int) -> int:
        """Most groups that there is room for; never more than tasks."""
        limits = [n_tasks]
        if self.models is not None:
            limits.append(self.models)
        if self.cost is not None:
            limits.append(int(self.cost + 1e-9))
        return min(limits)

    def allows(self, groups: Sequence[Group]) -> bool:
        """Whether groups are within the budget."""
        n_tasks = sum(len(group.serves) for group in groups)
        within = self.cost is None or self.cost_of(groups) <= self.cost + 1e-9
        return within and len(groups) <= self.most_models(n_tasks)

    def check(self, gains: np.ndarray, names: Sequence[str]) -> None:
        """Raise if there is no arrangement of these tasks within the budget.

        Raises:
            RecipeError: If so, or if the matrix does not fit the names.
        """
        n_tasks = len(names)
        if gains.shape != (n_tasks, n_tasks):
            raise RecipeError(f"{n_tasks} tasks need a matrix of {n_tasks} by {n_tasks}, got {gains.shape}.")
        # More groups cost one each and save a head each: the cheapest is one of the two extremes.
        cheapest = min(self.group_cost(n_tasks), float(n_tasks) if self.most_models(n_tasks) == n_tasks else np.inf)
        if self.cost is not None and cheapest > self.cost + 1e-9:
            raise RecipeError(
                f"A cost of {self.cost:g} has no room for {n_tasks} tasks: together they cost {cheapest:g}. Give more."
            )
