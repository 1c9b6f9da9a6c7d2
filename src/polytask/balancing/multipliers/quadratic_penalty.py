"""A penalty on the violation that grows until the constraint is kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from polytask.balancing.balancer import Signals
from polytask.balancing.multipliers.multipliers import Multipliers
from polytask.balancing.options import at_least
from polytask.shapes import Float, Int, Tensor

__all__ = ["QuadraticPenalty"]


class QuadraticPenalty(Multipliers):
    r"""Each constraint pulls in proportion to its violation, harder from epoch to epoch while it is violated.

    .. math:: w_t = c_t\,[g(x_t)]_+, \qquad c \leftarrow \min(\gamma c, c_{\max})

    at the start of an epoch, for a constraint whose mean violation in the epoch before was above zero. For equalities
    :math:`w_t = c_t\, h(x_t)`, and the mean of :math:`|h|` counts.

    Args:
        penalty: The factor :math:`c` at first.
        growth: The factor :math:`\gamma` of each epoch.
        most: The largest penalty.
        equalities: Names of the constraints that are equalities.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> penalty = QuadraticPenalty(penalty=2.0, growth=3.0)
        >>> penalty.bind(["a.loss<=0.3"])
        >>> [penalty(Signals.of([0.5], epoch=epoch)).item() for epoch in (0, 1, 2)]
        [1.0, 3.0, 9.0]

    Note:
        There are no multipliers: an active constraint stays violated by about :math:`\lambda^*/c`. A large penalty
        makes the problem stiff for the optimiser. The factors grow with epochs, which
        :func:`~polytask.balancing.balanced_backward` is told. Costs nothing beyond the violations.

    References:
        Courant, Variational Methods for the Solution of Problems of Equilibrium and Vibrations, Bulletin of the AMS
        1943; Nocedal and Wright, Numerical Optimization, 2006, section 17.1.
    """

    sums: Tensor
    counts: Tensor
    epoch: Tensor

    def __init__(self, penalty: float = 2.0, growth: float = 1.5, most: float = 100.0, equalities: Sequence[str] = ()):
        super().__init__(equalities)
        self.penalty = at_least("QuadraticPenalty", "penalty", penalty, 0.0, above=True)
        self.growth = at_least("QuadraticPenalty", "growth", growth, 1.0)
        self.most = at_least("QuadraticPenalty", "most", most, penalty)

    def reset(self, n_tasks: int) -> None:
        """The factors, and the sums of the epoch so far."""
        super().reset(n_tasks)
        self.values.fill_(self.penalty)
        self.register_buffer("sums", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("epoch", torch.zeros(n_tasks, dtype=torch.int64))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The factor times the violation."""
        at = signals.index
        self._begin(at, signals.epoch)
        violations = self.allowed(signals.losses, at)
        self.sums[at] += torch.where(self.equal_at(at), signals.losses.abs(), signals.losses)
        self.counts[at] += 1
        return self.values[at] * violations

    def _begin(self, at: Int[Tensor, " T"], epoch: int) -> None:
        """Raise the factors of the constraints that were violated in the epoch that ended."""
        is_new = self.epoch[at] != epoch
        is_violated = self.sums[at] > 0.0
        raised = (self.values[at] * self.growth).clamp(max=self.most)
        self.values[at] = torch.where(is_new & is_violated, raised, self.values[at])
        for sums in (self.sums, self.counts):
            sums[at] = torch.where(is_new, torch.zeros_like(sums[at]), sums[at])
        self.epoch[at] = epoch

    def held(self, index: Int[Tensor, " T"]) -> Float[Tensor, " T"]:
        """There is no multiplier to keep: a violation that cannot be used does not pull."""
        return torch.zeros_like(self.values[index])
