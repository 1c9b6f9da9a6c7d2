"""Data parallel: tasks and sums over the processes, so that what is solved is the problem of the joined batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import distributed as dist

from polytask.balancing.balancer import Balancer
from polytask.balancing.step import Step
from polytask.errors import RecipeError
from polytask.shapes import Tensor

__all__ = ["Counts", "join", "summed", "summed_list"]

Counts = Mapping[str, float] | Sequence[float]


def join(step: Step, balancer: Balancer, group: dist.ProcessGroup, counts: Counts | None) -> None:
    """Make the tasks of all processes present in each, with the part that this process's batch has in each loss.

    A task's loss over the joined batch is the mean of the processes' losses, weighted by their observed labels. A task
    without a label here takes part with a zero gradient.

    Raises:
        RecipeError: If the heads are not given: a process cannot find the parameters of a task that it has no loss of.
    """
    if step.given_heads is None:
        raise RecipeError(
            "In data parallel give heads=: a process cannot find the parameters of a task it has no loss of."
        )
    step.group = group
    n_tasks = len(step.tasks)
    local = dict(zip(step.index, step.losses, strict=True))
    numbers = torch.zeros(2, n_tasks, dtype=torch.float64)
    for i, value in zip(step.index, step.values.tolist(), strict=True):
        n = _count(counts, balancer, i)
        numbers[0, i], numbers[1, i] = n, n * value
    mine = numbers[0].clone()
    numbers = summed(numbers, group)
    step.index = [i for i in range(n_tasks) if numbers[0, i] > 0]
    if not step.index:
        step.losses, step.values, step.shares = [], numbers[1, :0], []
        return
    step.losses = [local[i] if i in local else torch.zeros((), requires_grad=True) for i in step.index]
    step.values = numbers[1, step.index] / numbers[0, step.index]
    step.shares = (mine[step.index] / numbers[0, step.index]).tolist()


def _count(counts: Counts | None, balancer: Balancer, i: int) -> float:
    if counts is None:
        return 1.0
    return float(counts[balancer.tasks[i]] if isinstance(counts, Mapping) else counts[i])


def summed(values: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum over the processes; the tensor itself without a group."""
    if group is not None:
        dist.all_reduce(values, group=group)
    return values


def summed_list(
    gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], group: dist.ProcessGroup | None
) -> list[Tensor | None]:
    """Sums over the processes of one gradient a parameter, sent as one message for each dtype and device.

    A parameter that some process reaches has a gradient in all.
    """
    if group is None or not parameters:
        return list(gradients)
    reached = summed(torch.tensor([float(g is not None) for g in gradients]), group)
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    out: list[Tensor | None] = [None] * len(filled)
    for kind in dict.fromkeys((p.dtype, p.device) for p in parameters):
        members = [i for i, p in enumerate(parameters) if (p.dtype, p.device) == kind]
        flat = summed(torch.cat([filled[i].flatten() for i in members]), group)
        for i, part in zip(members, flat.split([filled[i].numel() for i in members]), strict=True):
            out[i] = part.view_as(parameters[i]) if reached[i] else None
    return out
