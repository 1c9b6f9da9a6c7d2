"""What every method for multipliers must keep, as one call for authors of new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from polytask.balancing.backward import balanced_backward
from polytask.balancing.balancer import Signals
from polytask.balancing.constrained import Constrained
from polytask.balancing.losses.equal import Equal
from polytask.balancing.multipliers.multipliers import Multipliers
from polytask.shapes import Tensor
from polytask.testing.balancers import check_balancer

__all__ = ["check_multipliers", "solve"]

Make: TypeAlias = Callable[..., Multipliers]

_STEPS = 20


def check_multipliers(make: Make, *, within: float = 1e-2) -> None:
    r"""Check a method against the contract of :class:`polytask.balancing.multipliers.Multipliers`.

    It keeps the contract of a balancer (whose tasks are the constraints); an inequality never pulls the wrong way, and
    not at all in the long run when it is kept with room; a violated one pulls, and no less from step to step; an
    equality pulls from both sides; and the nearest point of a line is found, from either side, and through a constraint
    that is not active.

    Args:
        make: Makes a fresh method; takes ``equalities`` by name.
        within: How near to the known solution of the problem :math:`\min x^2 + y^2` the method must come.

    Raises:
        AssertionError: If the method breaks the contract; the message says how.

    Example:
        >>> from polytask.balancing.multipliers import NuPI
        >>> check_multipliers(NuPI)
    """
    check_balancer(make)
    _check_sides(make)
    _check_equality(make)
    _check_solutions(make, within)


def solve(
    multipliers: Multipliers,
    constraints: dict[str, Callable[[Tensor], Tensor]],
    *,
    steps: int,
    rate: float = 0.1,
    start: Sequence[float] = (0.0, 0.0),
    per_epoch: int = 50,
) -> tuple[Tensor, Tensor]:
    """Minimise the squared length of a vector under constraints, by gradient descent.

    Returns:
        The vector, and the last weight of each constraint.

    Example:
        >>> from polytask.balancing.multipliers import AugmentedLagrangian
        >>> x, pull = solve(AugmentedLagrangian(rate=0.5), {"sum": lambda x: 1.0 - x.sum()}, steps=300)
        >>> x.numpy().round(4).tolist(), pull.numpy().round(4).tolist()
        ([0.5, 0.5], [1.0])
    """
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    balancer = Constrained(Equal(), multipliers, list(constraints))
    pull = torch.zeros(len(constraints))
    for step in range(steps):
        losses = {"length": x.square().sum(), **{name: of(x) for name, of in constraints.items()}}
        pull = balanced_backward(losses, [x], balancer=balancer, epoch=step // per_epoch).weights[1:]
        if x.grad is not None:
            with torch.no_grad():
                x -= rate * x.grad
        x.grad = None
    return x.detach(), pull


def _check_sides(make: Make) -> None:
    method = make()
    method.bind(["kept", "broken"])
    before = 0.0
    for step in range(_STEPS):
        kept, broken = method(Signals.of([-0.5, 0.5], step=step, epoch=step // 10)).tolist()
        assert kept >= 0.0, f"an inequality pulls with {kept}: away from where it is kept"
        assert broken >= before, f"a violated inequality pulls less than the step before: {broken} after {before}"
        before = broken
    assert before > 0.0, f"an inequality that is violated for {_STEPS} steps does not pull"
    for step in range(40 * _STEPS):
        kept = method(Signals.of([-0.5], index=[1], step=step, epoch=4)).item()
    assert kept == 0.0, f"an inequality that is kept with room still pulls with {kept}"


def _check_equality(make: Make) -> None:
    above, below = make(equalities=["c"]), make(equalities=["c"])
    for method in (above, below):
        method.bind(["c"])
    for step in range(_STEPS):
        pulls = [m(Signals.of([side], step=step)).item() for m, side in ((above, 0.5), (below, -0.5))]
    assert pulls[0] == -pulls[1] > 0.0, f"an equality pulls with {pulls[0]} from above and {pulls[1]} from below"


def _check_solutions(make: Make, within: float) -> None:
    """Three problems at once, each in two places of one vector."""
    constraints: dict[str, Callable[[Tensor], Tensor]] = {
        "an equality": lambda x: 1.0 - x[:2].sum(),
        "an active inequality": lambda x: 1.0 - x[2:4].sum(),
        "an inactive inequality": lambda x: x[4:].sum() - 1.0,
    }
    method = make(equalities=["an equality"])
    x, _ = solve(method, constraints, steps=800, rate=0.008, per_epoch=40, start=(0.0,) * 4 + (1.0, 1.0))
    for case, found, expected in zip(constraints, x.split(2), (0.5, 0.5, 0.0), strict=True):
        off = (found - expected).abs().max().item()
        assert off <= within, f"{case}: the solution is {expected} in both places, found {found.tolist()}"
