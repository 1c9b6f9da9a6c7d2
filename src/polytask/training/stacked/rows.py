"""What the members of a stack read in a step, gathered together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from polytask.shapes import Int, Tensor
from polytask.training.stacked.losses import Labels, LabelsOfBatch
from polytask.training.stacked.member import Member

__all__ = ["POOL", "Rows"]

POOL = 32 * 2**20
"""Bytes of rows of all members together that are copied into one table for the sake of speed."""


class Rows:
    """All rows of all members; a batch of every member is one indexing operation for each field.

    That takes a copy of the rows, one member's after another's. Where it would take more than :data:`POOL` bytes, each
    member's rows stay where they are and are read one member after another.

    Args:
        members: The members.
    """

    def __init__(self, members: Sequence[Member]):
        each = [[*member.inputs.values(), *member.labels.targets, *member.labels.observed] for member in members]
        self.names = list(members[0].inputs)
        self.labels = [member.labels for member in members]
        self.is_pooled = sum(field.nbytes for mine in each for field in mine) <= POOL
        lengths = torch.tensor([len(mine[0]) for mine in each])
        self.starts = (lengths.cumsum(0) - lengths).unsqueeze(1)
        columns = [list(column) for column in zip(*each, strict=True)]
        self.fields = [[torch.cat(column)] for column in columns] if self.is_pooled else columns
        self.n_groups = len(self.labels[0].targets)

    def keep(self, positions: Sequence[int]) -> None:
        """Forget the members that are not at these positions."""
        self.labels = [self.labels[i] for i in positions]
        if self.is_pooled:
            self.starts = self.starts[list(positions)]
        else:
            self.fields = [[column[i] for i in positions] for column in self.fields]

    def batch(
        self, at: Sequence[int], rows: Sequence[Int[Tensor, " B"]], n_members: int, *, complete: bool
    ) -> tuple[dict[str, Tensor], LabelsOfBatch]:
        """Inputs ``[M, B, ...]`` and labels of the members at these positions, for as many rows of each.

        Args:
            at: The members' positions.
            rows: The rows of each.
            n_members: Members of the ensemble that each network is.
            complete: Whether every task of every member has all labels.
        """
        starts = self.starts if len(at) == len(self.labels) else self.starts[list(at)]
        places = torch.stack(list(rows))
        index = (places + starts).flatten() if self.is_pooled else places

        def gathered(i: int) -> Tensor:
            if self.is_pooled:
                (pool,) = self.fields[i]
                return pool.index_select(0, index).view(len(at), -1, *pool.shape[1:])
            return torch.stack([self.fields[i][m].index_select(0, mine) for m, mine in zip(at, index, strict=True)])

        inputs = {name: gathered(i) for i, name in enumerate(self.names)}
        first, n = len(self.names), self.n_groups
        targets = [gathered(first + g) for g in range(n)]
        labels = [self.labels[i] for i in at]
        factors = [torch.stack([mine.scale(g, places.shape[1], n_members) for mine in labels]) for g in range(n)]
        if not all(mine.is_constant for mine in labels):
            factors = [gathered(first + n + g) * factors[g] for g in range(n)]
        present = None if complete else self._present(labels, rows)
        return inputs, LabelsOfBatch(targets, factors, present)

    @staticmethod
    def _present(labels: Sequence[Labels], rows: Sequence[Int[Tensor, " B"]]) -> Tensor:
        return torch.stack([mine.seen[at].any(0) for mine, at in zip(labels, rows, strict=True)])
