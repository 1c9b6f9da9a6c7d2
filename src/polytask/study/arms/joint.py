"""One network for all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch

from polytask.bundle import Network
from polytask.errors import RecipeError
from polytask.study.arm import FittedArm, FoldData
from polytask.study.networks import NetworkArm, asked, best_epochs, conflict_of, curves_of, weights_of
from polytask.training.run import Fitted, Plan
from polytask.training.stacked import Asked

__all__ = ["Joint"]


class Joint(NetworkArm):
    """One network for all tasks.

    Args:
        name: See :class:`~polytask.study.arm.Arm`.
        kind: The sharing; that of the study's recipe if ``None``.
        ratio: How much is shared, for sharings that have a ratio.
        balancer: The balancer; that of the study's recipe if ``None``.

    Raises:
        RecipeError: If the ratio is no number.

    Note:
        One training for all tasks, and one network to store; what a step costs beside equal weights and hard sharing is
        on the cards of the balancer and of the sharing. Tasks that disturb each other do so here: compare it with
        ``single``. Left out with one task.
    """

    role: ClassVar[str] = "joint"
    reads_sources: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("kind", "ratio", "balancer")

    def __init__(self, name: str, kind: str | None = None, ratio: str | None = None, balancer: str | None = None):
        super().__init__(name)
        from polytask.balancing import registry as balancers
        from polytask.models.sharing import registry as sharings

        # Names are looked up now, so that a wrong one is found before anything is trained.
        if kind is not None:
            sharings.load(kind)
        if balancer is not None:
            balancers.load(balancer)
        self.kind, self.balancer = kind, balancer
        try:
            self.ratio = None if ratio is None else float(ratio)
        except ValueError:
            raise RecipeError(f"{name!r}: the ratio after @ must be a number, got {ratio!r}.") from None

    @property
    def words(self) -> str:
        """What the arm is."""
        sharing = f", {self.kind} sharing" if self.kind else ""
        ratio = f" (ratio {self.ratio:g})" if self.ratio is not None else ""
        weights = f"balanced by {self.balancer}" if self.balancer else "equal weights"
        return f"One network for all tasks{sharing}{ratio}, {weights}."

    def why_not(self, fold: FoldData) -> str:
        """There must be something to share."""
        return "" if len(fold.tasks) > 1 else "there is one task only, so nothing is learned jointly"

    def trainings(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> list[Asked]:
        """The network."""
        return [asked(fold, self._plan(fold), self.name, (settled or {}).get("epochs"))]

    def assemble(self, fold: FoldData, fitted: Sequence[Fitted]) -> FittedArm:
        """The network, and what its training tells about weights, conflicts and gates."""
        (one,) = fitted
        names = [task.name for task in fold.tasks]
        return FittedArm(
            one.bundle.networks,
            settled={"epochs": best_epochs(one)},
            curves=curves_of(one.history, names),
            weights=weights_of(one.history, names) if self._plan(fold).balancer != "equal" else {},
            conflict=conflict_of(one.history),
            gates=_gates(fold, one.bundle.networks),
            notes=one.notes,
        )

    def _plan(self, fold: FoldData) -> Plan:
        plan = fold.plan
        if self.kind is not None:
            plan = replace(plan, sharing=self.kind, sharing_options={})
        if self.ratio is not None:
            plan = replace(plan, sharing_options={**plan.sharing_options, "ratio": self.ratio})
        if self.balancer is not None:
            plan = replace(plan, balancer=self.balancer, balancer_options={})
        return plan


def _gates(fold: FoldData, networks: Sequence[Network]) -> dict[str, list[float]]:
    """The share of each expert for each task, a mean over some rows; empty for sharing without gates."""
    source = (fold.prepared.validation or fold.prepared.train)[fold.source]
    rows = source.take(torch.arange(min(len(source), _GATE_ROWS)))
    used: dict[str, list[float]] = {}
    for network in networks:
        network.outputs(rows, [task for task in network.tasks if task in rows.tasks])
        shares = network.model.sharing.gate_use()
        used |= {task: [round(s, 4) for s in shares[task].values()] for task in network.tasks if task in shares}
    return used


_GATE_ROWS = 2_000
