"""A PI controller with a smoothed error for the multipliers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from polytask.balancing.balancer import Signals
from polytask.balancing.multipliers.multipliers import Multipliers
from polytask.balancing.options import at_least, within
from polytask.shapes import Float, Tensor

__all__ = ["NuPI"]


class NuPI(Multipliers):
    r"""Multipliers that answer to how a violation changes and not only to its sum, so that they do not swing.

    .. math::
        \xi_t &= \nu \xi_{t-1} + (1 - \nu)\, g(x_t) \\
        w_t &= \lambda_t, \qquad
        \lambda_{t+1} = [\lambda_t + \kappa_i\, g(x_t) + \kappa_p (\xi_t - \xi_{t-1})]_+

    with :math:`\xi_{-1} = g(x_0)`, and without the projection for equalities.

    Args:
        integral: The gain :math:`\kappa_i` on the violation.
        proportional: The gain :math:`\kappa_p` on the change of the smoothed violation.
        smoothing: The share :math:`\nu` of the past in the smoothed violation.
        start: What every multiplier starts at.
        equalities: Names of the constraints that are equalities.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> multipliers = NuPI(integral=0.5, proportional=1.0, smoothing=0.0)
        >>> multipliers.bind(["a.loss<=0.3"])
        >>> [multipliers(Signals.of([violation])).item() for violation in (1.0, 0.5, 0.25)]
        [0.0, 0.5, 0.25]

    Note:
        With ``proportional=0`` it is the plain ``lagrangian``. The paper's algorithm 1 starts at
        :math:`\lambda_0 + \kappa_p \xi_0 + \kappa_i g(x_0)`; as in the documentation of the authors' library (Cooper),
        the first step here is one of gradient ascent, and the projection is applied to the recursive form. The
        library's code (1.0.1) goes on from :math:`\xi_0 = 0`, where its documentation and this method have
        :math:`\xi_0 = g(x_0)`; the recursion is the same. Costs nothing beyond the violations.

    References:
        Sohrabi, Ramirez, Zhang, Lacoste-Julien and Gallego-Posada, On PI Controllers for Updating Lagrange Multipliers
        in Constrained Optimization, ICML 2024, algorithm 1.
    """

    smoothed: Tensor
    is_begun: Tensor

    def __init__(
        self,
        integral: float = 0.05,
        proportional: float = 1.0,
        smoothing: float = 0.9,
        start: float = 0.0,
        equalities: Sequence[str] = (),
    ):
        super().__init__(equalities, start)
        self.integral = at_least("NuPI", "integral", integral, 0.0, above=True)
        self.proportional = at_least("NuPI", "proportional", proportional, 0.0)
        self.smoothing = within("NuPI", "smoothing", smoothing, 0.0, 1.0)

    def reset(self, n_tasks: int) -> None:
        """The multipliers and the smoothed violations."""
        super().reset(n_tasks)
        self.register_buffer("smoothed", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("is_begun", torch.zeros(n_tasks, dtype=torch.bool))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The multipliers; then the controller's step."""
        at, violations = signals.index, signals.losses
        before = self.values[at]
        last = torch.where(self.is_begun[at], self.smoothed[at], violations)
        smoothed = self.smoothing * last + (1.0 - self.smoothing) * violations
        moved = before + self.integral * violations + self.proportional * (smoothed - last)
        self.values[at] = self.allowed(moved, at)
        self.smoothed[at], self.is_begun[at] = smoothed, True
        return before
