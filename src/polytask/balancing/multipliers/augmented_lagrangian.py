"""Multipliers and a penalty on the violation together."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.balancing.balancer import Signals
from polytask.balancing.multipliers.multipliers import Multipliers
from polytask.balancing.options import at_least
from polytask.shapes import Float, Tensor

__all__ = ["AugmentedLagrangian"]


class AugmentedLagrangian(Multipliers):
    r"""A multiplier for the constraint in the long run, and a penalty that answers to its violation at once.

    .. math:: w_t = [\lambda_t + c\, g(x_t)]_+, \qquad \lambda_{t+1} = [\lambda_t + \eta\, g(x_t)]_+

    without the projections for equalities: :math:`w_t g'(x_t)` is the gradient of
    :math:`\tfrac{1}{2c}\,([\lambda + c\,g]_+^2 - \lambda^2)`.

    Args:
        penalty: The factor :math:`c` on the violation.
        rate: The step :math:`\eta` of the multipliers; the penalty if ``None``, which is right where each step solves
            the problem in the parameters, and too large where steps are small and noisy.
        start: What every multiplier starts at.
        equalities: Names of the constraints that are equalities.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> multipliers = AugmentedLagrangian(penalty=2.0, rate=0.5)
        >>> multipliers.bind(["a.loss<=0.3"])
        >>> [multipliers(Signals.of([violation])).item() for violation in (1.0, 0.5, -2.0)]
        [2.0, 1.5, 0.0]

    Note:
        The solution is that of the problem, not of a penalised one, whatever the penalty. On mini-batches
        :math:`[\cdot]_+` of a noisy violation is on average above that of its mean, so that constraints near their
        bound are kept with a little to spare. Costs nothing beyond the violations.

    References:
        Hestenes, Multiplier and Gradient Methods, JOTA 1969; Rockafellar, The Multiplier Method of Hestenes and Powell
        Applied to Convex Programming, JOTA 1973 (inequalities).
    """

    def __init__(
        self, penalty: float = 2.0, rate: float | None = 0.05, start: float = 0.0, equalities: Sequence[str] = ()
    ):
        super().__init__(equalities, start)
        self.penalty = at_least("AugmentedLagrangian", "penalty", penalty, 0.0, above=True)
        self.rate = penalty if rate is None else at_least("AugmentedLagrangian", "rate", rate, 0.0, above=True)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The multipliers with the penalty; then a step up the violations."""
        at, violations = signals.index, signals.losses
        before = self.values[at]
        self.values[at] = self.allowed(before + self.rate * violations, at)
        return self.allowed(before + self.penalty * violations, at)
