"""The multipliers' contract: violations of constraints in, one weight per constraint out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.errors import RecipeError
from polytask.shapes import Bool, Float, Int, Tensor

__all__ = ["Multipliers"]


class Multipliers(Balancer):
    r"""A balancer of violations: its "tasks" are constraints, its "losses" how far each is violated.

    The violation of an inequality is :math:`g(x)` with :math:`g(x) \le 0` wanted, that of an equality :math:`h(x)`
    with :math:`h(x) = 0` wanted. A constraint that cannot be measured in a batch is absent, and keeps its multiplier.

    Args:
        equalities: Names of the constraints that are equalities; their multipliers may be negative.
        start: What every multiplier starts at.

    Raises:
        RecipeError: If ``start`` is negative or not finite.
    """

    keeps: frozenset[str] = frozenset({"permutation"})
    values: Tensor
    is_equality: Tensor

    def __init__(self, equalities: Sequence[str] = (), start: float = 0.0):
        super().__init__()
        if not 0.0 <= start < float("inf"):
            raise RecipeError(f"{type(self).__name__} needs an option start of at least 0, got {start!r}.")
        self.equalities, self.start = tuple(equalities), start

    def reset(self, n_tasks: int) -> None:
        """One multiplier for each constraint.

        Raises:
            RecipeError: If ``equalities`` names a constraint that there is not.
        """
        if unknown := [name for name in self.equalities if name not in self.tasks]:
            raise RecipeError(
                f"{type(self).__name__}: option equalities names {unknown[0]!r}, which is no constraint. "
                f"Constraints: {', '.join(self.tasks)}."
            )
        equal = torch.tensor([name in self.equalities for name in self.tasks])
        self.register_buffer("values", torch.full((n_tasks,), self.start, dtype=torch.float64))
        self.register_buffer("is_equality", equal)

    def forward(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights of the present constraints; a violation that is no number changes no multiplier, and is noted."""
        if signals.is_finite:
            return super().forward(signals)
        self.note_fallback("a violation is not finite: multipliers unchanged")
        return self.held(signals.index.to(self.values.device)).to(signals.losses)

    def held(self, index: Int[Tensor, " T"]) -> Float[Tensor, " T"]:
        """How hard the constraints pull in a step whose violations cannot be used."""
        return self.values[index]

    @abstractmethod
    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """How hard each present constraint pulls in this step; then the multipliers move."""

    def allowed(self, values: Float[Tensor, " T"], index: Int[Tensor, " T"]) -> Float[Tensor, " T"]:
        """The nearest multipliers that may be: not negative, but for equalities."""
        return torch.where(self.equal_at(index), values, values.clamp_min(0.0))

    def equal_at(self, index: Int[Tensor, " T"]) -> Bool[Tensor, " T"]:
        """Which of the present constraints are equalities."""
        return self.is_equality[index]
