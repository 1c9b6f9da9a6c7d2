"""Constraints beside the tasks of any balancer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from polytask.balancing.balancer import SEES_GRADIENTS, Balancer, Signals
from polytask.balancing.multipliers.multipliers import Multipliers
from polytask.errors import RecipeError
from polytask.shapes import Bool, Float, Tensor

__all__ = ["Constrained"]


class Constrained(Balancer):
    r"""Balance the tasks by any method, and add the pull of constraints, each given as one more loss: its violation.

    .. math:: d = \sum_t w_t \nabla L_t + \sum_c \lambda_c \nabla g_c

    where :math:`w` are the method's weights, which sees the tasks only, and :math:`\lambda` are the multipliers', which
    see the violations only. A violation whose value is the true measure while its gradient is that of a smooth stand-in
    is ``stand_in + (measure - stand_in).detach()``.

    Args:
        balancer: The method that weighs the tasks.
        multipliers: The method that weighs the constraints.
        constraints: Names of the constraints among the losses.

    Raises:
        RecipeError: If no constraint is named, or one that there is no loss of.

    Example:
        >>> from polytask.balancing import Equal, balanced_backward
        >>> from polytask.balancing.multipliers import AugmentedLagrangian
        >>> x, y = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
        >>> keep_sum = AugmentedLagrangian(penalty=1.0, rate=0.5, equalities=["sum"])
        >>> balancer = Constrained(Equal(), keep_sum, ["sum"])
        >>> for _ in range(100):
        ...     losses = {"size": x.square().sum(), "sum": 1.0 - x.sum()}
        ...     outcome = balanced_backward(losses, [x], balancer=balancer)
        ...     with torch.no_grad():
        ...         x -= 0.2 * x.grad
        ...     x.grad = None
        >>> x.detach().numpy().round(4).tolist(), round(keep_sum.values.item(), 4)
        ([0.5, 0.5], 1.0)

    Note:
        A constraint costs what a further task costs: nothing worth naming with a method that sees losses only, one more
        pass through the shared part with one that sees gradients. In the mode ``every_k`` multipliers move in the
        steps in which weights are found; the mode ``matrix_free`` is not possible. In data parallel the violations of
        the processes are averaged by ``counts``, as losses are.

    References:
        Cotter et al., Two-Player Games for Efficient Non-Convex Constrained Optimization, ALT 2019 (multipliers see the
        measure, gradients a proxy of it).
    """

    is_constraint: Tensor
    local: Tensor

    def __init__(self, balancer: Balancer, multipliers: Multipliers, constraints: Sequence[str]):
        super().__init__()
        if not constraints:
            raise RecipeError("Constrained needs the name of one constraint or more, got none.")
        self.balancer, self.multipliers, self.constraints = balancer, multipliers, tuple(constraints)
        self.needs = balancer.needs
        self.keeps = balancer.keeps & {"permutation"}
        self.sums_to_one = balancer.sums_to_one

    def bind(self, tasks: Sequence[str]) -> None:
        """Bind both methods: ``tasks`` are the names of tasks and constraints together."""
        if missing := [name for name in self.constraints if name not in tasks]:
            raise RecipeError(f"There is no loss for the constraint {missing[0]!r}; got {', '.join(tasks)}.")
        own = [name for name in tasks if name not in self.constraints]
        self.balancer.bind(own)
        self.multipliers.bind(self.constraints)
        super().bind(tasks)

    def reset(self, n_tasks: int) -> None:
        """Where each of the losses is among the tasks or among the constraints."""
        where = {name: i for names in (self.balancer.tasks, self.constraints) for i, name in enumerate(names)}
        is_constraint = torch.tensor([name in self.constraints for name in self.tasks])
        self.register_buffer("is_constraint", is_constraint, persistent=False)
        self.register_buffer("local", torch.tensor([where[name] for name in self.tasks]), persistent=False)

    def forward(self, signals: Signals) -> Float[Tensor, " T"]:
        """As of every balancer; where a number is not finite, the multipliers stay as they are."""
        weights = super().forward(signals)
        if not signals.is_finite:
            pulls, at = self._mask(signals), self.local.to(signals.index.device)[signals.index]
            weights[pulls] = self.multipliers.held(at[pulls].to(self.multipliers.values.device)).to(weights)
        return weights

    def needs_in(self, signals: Signals) -> frozenset[str]:
        """What the tasks' method needs; the losses are enough if no task is present."""
        tasks = ~self._mask(signals)
        return self.balancer.needs_in(self._part(signals, tasks)) if bool(tasks.any()) else frozenset({"losses"})

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The weights of the tasks and the pull of the constraints."""
        weights = torch.zeros_like(signals.losses)
        pulls = self._mask(signals)
        for chosen, method in ((~pulls, self.balancer), (pulls, self.multipliers)):
            if bool(chosen.any()):
                weights[chosen] = method(self._part(signals, chosen)).to(weights)
        return weights

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Those of the tasks' method; a constraint pulls at heads as it does at the shared part."""
        own = weights.clone()
        tasks = ~self._mask(signals)
        if bool(tasks.any()):
            own[tasks] = self.balancer.head_weights(self._part(signals, tasks), weights[tasks]).to(own)
        return own

    def after_step(self, signals: Signals) -> None:
        """Passed on to the tasks' method."""
        tasks = ~self._mask(signals)
        if bool(tasks.any()):
            self.balancer.after_step(self._part(signals, tasks))

    def combine(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " P"] | None:
        """The vector of the tasks' method, if it has one of its own, and the pull of the constraints."""
        pulls = self._mask(signals)
        if signals.rows is None or not bool((~pulls).any()):
            return None
        own = self.balancer.combine(self._part(signals, ~pulls), weights[~pulls])
        return None if own is None else own + weights[pulls].to(signals.rows) @ signals.rows[pulls]

    @property
    def is_mixture(self) -> bool:
        """Whether that of the tasks' method is one."""
        return self.balancer.is_mixture

    @property
    def modes(self) -> tuple[str, ...]:
        """Those of the tasks' method but ``matrix_free``."""
        return tuple(mode for mode in self.balancer.modes if mode != "matrix_free")

    def _mask(self, signals: Signals) -> Bool[Tensor, " T"]:
        return self.is_constraint.to(signals.index.device)[signals.index]

    def _part(self, signals: Signals, chosen: Bool[Tensor, " T"]) -> Signals:
        """The signals of the chosen ones, at their places among their own kind."""
        at = self.local.to(signals.index.device)[signals.index[chosen]]
        vectors = {name: getattr(signals, name) for name in ("losses", "validation")}
        taken = {name: value[chosen] for name, value in vectors.items() if value is not None}
        if self.needs & SEES_GRADIENTS:
            squares = {name: getattr(signals, name) for name in ("gramian", "cross_gramian")}
            taken |= {name: value[chosen][:, chosen] for name, value in squares.items() if value is not None}
            if signals.rows is not None:
                taken["rows"] = signals.rows[chosen]
        return replace(signals, index=at, **taken)
