"""Data parallel: the tasks of all processes in each, so that what is solved is the problem of the joined batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import distributed as dist

from polytask.balancing.balancer import Balancer
from polytask.balancing.peers import Peers
from polytask.balancing.step import Step
from polytask.errors import RecipeError

__all__ = ["Counts", "join"]

Counts = Mapping[str, float] | Sequence[float]


def join(step: Step, balancer: Balancer, group: dist.ProcessGroup, counts: Counts | None) -> None:
    """Make the tasks of all processes present in each, with the part that this process's batch has in each loss.

    A task's loss over the joined batch is the mean of the processes' losses, weighted by their counts. A task without
    a label here takes part with a zero gradient; one without a label in any process is absent.

    Raises:
        RecipeError: If the heads are not given: a process cannot find the parameters of a task that it has no loss of.
    """
    if step.given_heads is None:
        raise RecipeError(
            "In data parallel give heads=: a process cannot find the parameters of a task it has no loss of."
        )
    step.peers = Peers(group)
    n_tasks = len(step.tasks)
    local = dict(zip(step.index, step.losses, strict=True))
    numbers = torch.zeros(3, n_tasks, dtype=torch.float64)
    for i in range(n_tasks):
        numbers[0, i] = _count(counts, balancer, i, i in local)
    for i, value in zip(step.index, step.values.tolist(), strict=True):
        numbers[1, i], numbers[2, i] = numbers[0, i] * value, 1.0
    mine = numbers[0].clone()
    totals, values, there = step.peers.sum(numbers)
    step.index = [i for i in range(n_tasks) if there[i] > 0]
    if uncounted := [step.tasks[i] for i in step.index if totals[i] <= 0.0]:
        raise RecipeError(f"Task {uncounted[0]!r} has a loss, but its count is 0 in all processes.")
    step.losses = [local[i] if i in local else torch.zeros((), requires_grad=True) for i in step.index]
    step.values = values[step.index] / totals[step.index]
    step.shares = (mine[step.index] / totals[step.index]).tolist()


def _count(counts: Counts | None, balancer: Balancer, i: int, is_here: bool) -> float:
    """What this process's loss of a task counts for; without a loss here, what the zero in its place counts for."""
    if counts is None:
        return float(is_here)
    if isinstance(counts, Mapping):
        return float(counts[balancer.tasks[i]] if is_here else counts.get(balancer.tasks[i], 0.0))
    return float(counts[i])
