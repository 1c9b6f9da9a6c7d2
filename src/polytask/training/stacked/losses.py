"""Losses of all tasks of all members, those of one function in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from polytask.data.batch import ArraySource
from polytask.shapes import Bool, Float, Tensor, labelled
from polytask.tasks.task import Task
from polytask.training.loss_groups import Group

__all__ = ["Labels", "LabelsOfBatch", "losses_of"]


@dataclass
class LabelsOfBatch:
    """By group: targets and factors ``[M, B, G, ...]``; the factors of missing labels are zero.

    Where no label is missing, the factors are ``[M, 1, G, ...]``: the same for all rows.
    """

    targets: list[Tensor]
    factors: list[Tensor]
    present: Bool[Tensor, "M T"] | None


class Labels:
    r"""A member's labels, ready to be gathered by rows.

    The loss of a task is a weighted sum of those of all labels, with the factors
    :math:`w_t o_{it} r_i / \max(c_t K_t B, 1)` of :class:`~polytask.training.objective.Objective`.

    Args:
        source: The rows.
        tasks: The tasks, in order.
        shares: Share of each task's labels that are observed.
        groups: Their groups.
    """

    def __init__(self, source: ArraySource, tasks: Sequence[Task], shares: Sequence[float], groups: Sequence[Group]):
        self.targets: list[Tensor] = []
        self.observed: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.shares: list[Tensor] = []
        names = [task.name for task in tasks]
        for group in groups:
            at = group.positions
            self.targets.append(torch.stack([source.targets[names[i]] for i in at], dim=1))
            observed = torch.stack([source.observed[names[i]] for i in at], dim=1)
            if source.row_weights is None:
                self.observed.append(observed.to(torch.get_default_dtype()))
            else:
                self.observed.append(observed * source.row_weights.view(-1, *[1] * (observed.ndim - 1)))
            self.weights.append(torch.tensor([tasks[i].weight for i in at], dtype=torch.float64))
            self.shares.append(torch.tensor([shares[i] for i in at], dtype=torch.float64))
        self.seen = torch.stack([labelled(source.observed[name]) for name in names], dim=1)
        self.is_constant = source.row_weights is None and all(bool(seen.all()) for seen in self.observed)
        self._scales: dict[tuple[int, int], Tensor] = {}

    def scale(self, group: int, n_rows: int, n_members: int) -> Float[Tensor, "1 G *K"]:
        """The factors where no label is missing: one for all rows of a batch of so many."""
        key = group, n_rows
        if key not in self._scales:
            extra = self.observed[group][0, 0].numel()
            # A share of 1 is the mean over the batch; otherwise the number of labels that is expected.
            scale = self.weights[group] / (self.shares[group] * (n_rows * extra * n_members)).clamp(min=1.0)
            observed = self.observed[group]
            self._scales[key] = scale.to(observed.dtype).view(1, -1, *[1] * (observed.ndim - 2))
        return self._scales[key]


def losses_of(
    outputs: Sequence[Float[Tensor, "M B *k O"]],
    labels: LabelsOfBatch,
    groups: Sequence[Group],
    tasks: Sequence[Sequence[Task]],
    n_members: int,
) -> Float[Tensor, "M T"]:
    """The loss of each task of each member.

    Args:
        outputs: Of each task, in order.
        labels: See :class:`LabelsOfBatch`.
        groups: The groups.
        tasks: The tasks of each member.
        n_members: Members of the ensemble that each network is.
    """
    columns: list[Tensor] = [torch.empty(0)] * len(outputs)
    for group, targets, factors in zip(groups, labels.targets, labels.factors, strict=True):
        outs = torch.stack([outputs[i] for i in group.positions], dim=-2)  # [M, B, (k), G, O]
        if n_members > 1:
            targets, factors = targets.unsqueeze(2), factors.unsqueeze(2)
            targets = targets.expand(*outs.shape[:-1], *targets.shape[4:])
        if group.is_common:
            losses = tasks[0][group.positions[0]].label_losses(outs, targets)
        else:
            (i,) = group.positions
            losses = torch.stack([mine[i].label_losses(outs[m], targets[m]) for m, mine in enumerate(tasks)])
        axis = outs.ndim - 2  # that of the tasks
        over = [d for d in range(1, losses.ndim) if d != axis]
        for i, column in zip(group.positions, (losses * factors).sum(over).unbind(1), strict=True):
            columns[i] = column
    return torch.stack(columns, dim=1)
