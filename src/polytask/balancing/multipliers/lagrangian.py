"""Gradient ascent on the multipliers of the Lagrangian."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.balancing.balancer import Signals
from polytask.balancing.multipliers.multipliers import Multipliers
from polytask.balancing.options import at_least
from polytask.shapes import Float, Tensor

__all__ = ["Lagrangian"]


class Lagrangian(Multipliers):
    r"""Multipliers that grow with the sum of the violations so far: gradient descent and ascent.

    .. math:: w_t = \lambda_t, \qquad \lambda_{t+1} = [\lambda_t + \eta\, g(x_t)]_+

    without the projection for equalities.

    Args:
        rate: The step :math:`\eta` of the multipliers.
        start: What every multiplier starts at.
        equalities: Names of the constraints that are equalities.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> multipliers = Lagrangian(rate=0.5)
        >>> multipliers.bind(["a.loss<=0.3"])
        >>> [multipliers(Signals.of([violation])).item() for violation in (1.0, 0.5, -2.0, 0.0)]
        [0.0, 0.5, 0.75, 0.0]

    Note:
        The plainest rule, and the reference: multipliers and losses tend to swing around the solution, and an equality
        of a linear problem is circled for ever. ``nupi`` damps this, ``augmented_lagrangian`` takes it away where the
        penalty is large enough. Costs nothing beyond the violations.

    References:
        Arrow, Hurwicz and Uzawa, Studies in Linear and Non-Linear Programming, Stanford University Press 1958.
    """

    def __init__(self, rate: float = 0.05, start: float = 0.0, equalities: Sequence[str] = ()):
        super().__init__(equalities, start)
        self.rate = at_least("Lagrangian", "rate", rate, 0.0, above=True)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The multipliers; then a step up the violations."""
        at = signals.index
        before = self.values[at]
        self.values[at] = self.allowed(before + self.rate * signals.losses, at)
        return before
