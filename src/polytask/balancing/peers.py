"""The processes that share a batch in data parallel, and what they say to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import distributed as dist

from polytask.shapes import Tensor

__all__ = ["Peers", "summed", "summed_list"]


class Peers:
    """The processes that share a batch, for one step.

    Args:
        group: Their process group.

    Attributes:
        sent: Bytes that this process gave to be summed. A ring sends and receives ``2 (W - 1) / W`` times as many.
    """

    def __init__(self, group: dist.ProcessGroup):
        self.group = group
        self.sent = 0

    @property
    def size(self) -> int:
        """Number of processes."""
        return dist.get_world_size(self.group)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, in place; all of them call this in the same order."""
        self.sent += values.numel() * values.itemsize
        dist.all_reduce(values, group=self.group)
        return values


def summed(values: Tensor, peers: Peers | None) -> Tensor:
    """The sum over the processes; the tensor itself without any others."""
    return values if peers is None else peers.sum(values)


def summed_list(
    gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], peers: Peers | None
) -> list[Tensor | None]:
    """Sums over the processes of one gradient a parameter, sent as one message for each dtype and device.

    A parameter that some process reaches has a gradient in all; the message says which ones do.
    """
    if peers is None or not parameters:
        return list(gradients)
    out: list[Tensor | None] = [None] * len(parameters)
    for kind in dict.fromkeys((p.dtype, p.device) for p in parameters):
        members = [i for i, p in enumerate(parameters) if (p.dtype, p.device) == kind]
        given = [gradients[i] for i in members]
        parts = [
            (torch.zeros_like(parameters[i]) if g is None else g.to_dense() if g.is_sparse else g).detach().flatten()
            for i, g in zip(members, given, strict=True)
        ]
        reached = parts[0].new_tensor([float(g is not None) for g in given])
        flat = peers.sum(torch.cat([*parts, reached]))
        sizes = [part.numel() for part in parts]
        *sums, reached = flat.split([*sizes, len(members)])
        for i, part, was in zip(members, sums, reached.tolist(), strict=True):
            out[i] = part.view_as(parameters[i]) if was else None
    return out
