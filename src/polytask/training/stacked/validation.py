"""Validation losses of members whose epoch ends in the same step, from passes of all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from polytask.data.batch import ArraySource, Source
from polytask.shapes import Float, Tensor
from polytask.tasks.task import Task
from polytask.training.loss_groups import Group

__all__ = ["HeldOut", "mean_losses_of"]


class HeldOut:
    """A member's validation rows, ready to be stacked.

    Args:
        source: The rows.
        tasks: The tasks, in order.
        groups: How their losses are computed.
    """

    def __init__(self, source: ArraySource, tasks: Sequence[Task], groups: Sequence[Group]):
        names = [[tasks[i].name for i in group.positions] for group in groups]
        self.n_rows = len(source)
        self.inputs = {"": source.inputs} if isinstance(source.inputs, Tensor) else dict(source.inputs)
        self.targets = [torch.stack([source.targets[name] for name in mine], dim=1) for mine in names]
        self.observed = [torch.stack([source.observed[name] for name in mine], dim=1) for mine in names]
        self.counts = [int(source.observed[task.name].sum()) for task in tasks]

    @classmethod
    def of(cls, sources: Mapping[str, Source], tasks: Sequence[Task], groups: Sequence[Group]) -> HeldOut | None:
        """The rows of the only source; ``None`` if it is not one in memory with the labels of all tasks."""
        if len(sources) != 1:
            return None
        (source,) = sources.values()
        if not isinstance(source, ArraySource) or any(task.name not in source.tasks for task in tasks):
            return None
        return cls(source, tasks, groups)

    def fields(self, rows: slice) -> dict[str, Tensor]:
        """The inputs of some rows."""
        return {name: field[rows] for name, field in self.inputs.items()}


def mean_losses_of(
    outputs: Sequence[Sequence[Float[Tensor, "M B O"]]],
    rows: Sequence[slice],
    held_out: Sequence[HeldOut],
    groups: Sequence[Group],
    tasks: Sequence[Sequence[Task]],
) -> list[dict[str, float]]:
    """For each member, what :func:`polytask.training.evaluation.mean_losses` gives.

    Args:
        outputs: For each piece of rows, of each task.
        rows: The pieces.
        held_out: Each member's rows, as many of each.
        groups: How losses are computed.
        tasks: Each member's tasks.
    """
    sums = torch.zeros(len(held_out), len(tasks[0]), dtype=torch.float64)
    for piece, found in zip(rows, outputs, strict=True):
        for g, group in enumerate(groups):
            at = list(group.positions)
            outs = torch.stack([found[i] for i in at], dim=2)  # [M, B, G, O]
            targets = torch.stack([mine.targets[g][piece] for mine in held_out])
            observed = torch.stack([mine.observed[g][piece] for mine in held_out])
            if group.is_common:
                losses = tasks[0][at[0]].label_losses(outs, targets)
            else:
                losses = torch.stack([mine[at[0]].label_losses(outs[m], targets[m]) for m, mine in enumerate(tasks)])
            over = [1, *range(3, losses.ndim)]
            sums[:, at] += torch.where(observed, losses, 0.0).sum(over, dtype=torch.float64)
    return [
        {task.name: total / n for task, total, n in zip(mine, row, member.counts, strict=True) if n}
        for mine, row, member in zip(tasks, sums.tolist(), held_out, strict=True)
    ]
