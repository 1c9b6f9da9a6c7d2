"""Sums over the steps of an epoch, for its line in the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polytask.balancing.outcome import Outcome
from polytask.shapes import Bool, Float, Tensor

__all__ = ["EpochSums", "by_name"]

MOST_PAIRED = 20
"""With more tasks than this, the cosines of single pairs (190 of them) are left out; the share of conflicts stays."""


class EpochSums:
    """Losses, weights, conflicts and fallbacks of an epoch so far; part of the checkpoint.

    Args:
        tasks: Names of the tasks and then of the constraints, in the order of the outcomes.
        n_constraints: How many of them are constraints.
    """

    def __init__(self, tasks: Sequence[str], n_constraints: int = 0):
        self.tasks = list(tasks)
        self.n_constraints = n_constraints
        n = len(self.tasks)
        self.losses, self.steps, self.weights = torch.zeros(3, n, dtype=torch.float64).unbind()
        self.cosines, self.pairs, self.conflicts = torch.zeros(3, n, n, dtype=torch.float64).unbind()
        self.fallbacks = 0
        self.sent = self.done = 0

    def add(self, outcome: Outcome) -> None:
        """Count one step; a task that was absent from it adds nothing."""
        self.losses += outcome.losses.nan_to_num(0.0)
        self.steps += outcome.losses.isfinite()
        self.weights += outcome.weights
        self.fallbacks += len(outcome.report.fallbacks)
        self.sent += outcome.report.sent
        self.done += 1
        if outcome.gramian is not None:
            norms = outcome.gramian.diagonal().sqrt()
            # A task that is absent, or whose gradient is zero, is in no conflict with any other.
            there = torch.outer(norms > 0, norms > 0)
            cosines = torch.where(there, outcome.gramian / torch.outer(norms, norms), 0.0)
            self.cosines += cosines
            self.pairs += there
            self.conflicts += cosines < 0

    def line(self) -> dict[str, Any]:
        """Means over the steps that had the task, or the pair.

        In data parallel, ``bytes_per_step``: what each process gave to be summed over the processes.
        If gradients were seen, ``cosines`` by pair, and ``conflict_rate``: the share of negative cosines among all
        pairs of tasks in all steps.
        """
        n = len(self.tasks) - self.n_constraints
        names, seen, weights = self.tasks[:n], (self.steps > 0)[:n], self.weights / self.steps
        found: dict[str, Any] = {
            "train": by_name(names, (self.losses / self.steps)[:n], seen),
            "weights": by_name(names, weights[:n], seen),
            "fallbacks": self.fallbacks,
        }
        if self.sent:
            found["bytes_per_step"] = round(self.sent / self.done)
        if self.n_constraints:
            found["multipliers"] = by_name(self.tasks[n:], weights[n:], (self.steps > 0)[n:])
        above = torch.triu(self.pairs[:n, :n], diagonal=1)
        if above.sum() > 0:
            found["conflict_rate"] = (torch.triu(self.conflicts[:n, :n], diagonal=1).sum() / above.sum()).item()
            if n <= MOST_PAIRED:
                found["cosines"] = {
                    f"{self.tasks[i]} | {self.tasks[j]}": (self.cosines[i, j] / self.pairs[i, j]).item()
                    for i, j in above.nonzero().tolist()
                }
        return found

    def state_dict(self) -> dict[str, Any]:
        """All sums."""
        return {name: value for name, value in vars(self).items() if name not in ("tasks", "n_constraints")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value)


def by_name(names: Sequence[str], values: Float[Tensor, " T"], there: Bool[Tensor, " T"]) -> dict[str, float]:
    """The values of the tasks that are there."""
    return {n: v for n, v, is_there in zip(names, values.tolist(), there.tolist(), strict=True) if is_there}
