"""The tasks' gradients in one step: stored as rows where that is cheaper, as cotangents where a ghost watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.autograd.graph import GradientEdge

from polytask.balancing.balancer import Balancer
from polytask.balancing.ghost import Ghost
from polytask.balancing.ghost_layer import GhostLayer
from polytask.balancing.graph import Reach, reach
from polytask.balancing.peers import Peers
from polytask.balancing.rows import inner_products, row_buffer
from polytask.balancing.step import Step
from polytask.shapes import Float, Tensor

__all__ = ["Rows"]


class Rows:
    """Where the gradients of the shared parameters go, task by task.

    Args:
        step: The step.
        balancer: The method; its buffer of the step before is used again.
        ghost: Watches layers whose weight gradients can be passed over.
    """

    def __init__(self, step: Step, balancer: Balancer, ghost: Ghost | None = None):
        self.n_parameters = len(step.shared)
        self.layers: list[GhostLayer] = []
        self.decided: Mapping[str, str] = {}
        if ghost is not None:
            self.layers, self.decided = ghost.plan(_below(step), step.shared, len(step.losses))
        ghosts = {position for layer in self.layers for position in layer.positions}
        self.stored = [i for i in range(self.n_parameters) if i not in ghosts]
        self.inputs: list[Tensor | GradientEdge] = [step.shared[i] for i in self.stored]
        for layer in self.layers:
            self.inputs += layer.edges
        self.buffer = row_buffer(balancer, len(step.losses), [step.shared[i] for i in self.stored])
        self._like = step.shared
        self.reached = [False] * self.n_parameters

    def take(self, row: int, gradients: Sequence[Tensor | None]) -> None:
        """Keep one task's gradients; they come in the order of ``inputs``."""
        at = len(self.stored)
        self.buffer.write(row, gradients[:at])
        for position, gradient in zip(self.stored, gradients, strict=False):
            self.reached[position] = self.reached[position] or gradient is not None
        for layer in self.layers:
            own = gradients[at : at + len(layer.uses)]
            at += len(own)
            layer.take(row, own)
            for position in layer.reached_by(own):
                self.reached[position] = True

    def sum_over(self, peers: Peers) -> None:
        """Make the rows those of the joined batch: T times as many numbers to send as there are parameters."""
        for block in self.buffer.blocks:
            peers.sum(block)
        flags = peers.sum(torch.tensor([float(was) for was in self.reached]))
        self.reached = [bool(flag) for flag in flags]

    def products_with(self, gradients: Sequence[Tensor | None]) -> Float[Tensor, " T"]:
        """Inner products of the rows with one more gradient, float64; only without ghost layers."""
        filled = [g if g is not None else torch.zeros_like(c) for g, c in zip(gradients, self._like, strict=True)]
        flats = self.buffer.pack(filled)
        parts = [
            inner_products(block, flat.unsqueeze(0)) for block, flat in zip(self.buffer.blocks, flats, strict=True)
        ]
        return torch.stack(parts).sum(0).squeeze(1)

    def gramian(self) -> Float[Tensor, "T T"]:
        """Inner products of the gradients, float64."""
        total = self.buffer.gramian()
        for layer in self.layers:
            total = total + layer.gramian()
        return total

    def combined(self, weights: Float[Tensor, " T"]) -> list[Tensor | None]:
        """The weighted sum, one tensor a parameter; ``None`` where no task reaches."""
        found = dict(zip(self.stored, self.buffer.combined(weights), strict=True))
        for layer in self.layers:
            found.update(layer.combined(weights))
        return [found[i] if self.reached[i] else None for i in range(self.n_parameters)]

    def split(self, vector: Float[Tensor, " P"]) -> list[Tensor | None]:
        """A method's own gradient, one tensor a parameter; ``None`` where no task reaches."""
        return [g if was else None for g, was in zip(self.buffer.split(vector), self.reached, strict=True)]


def _below(step: Step) -> Reach:
    """Everything that the passes of this step go through below the features."""
    features = {i: step.features[i] for used in step.used for i in used}
    whole = [loss for loss, used in zip(step.losses, step.used, strict=True) if not used]
    return reach([*features.values(), *whole])
