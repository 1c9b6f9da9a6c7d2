"""One weight whose gradients are never computed: its inputs, the tasks' cotangents, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.autograd.graph import GradientEdge
from torch.nn import functional as F

from polytask.balancing.rows import SAFE, inner_products
from polytask.shapes import Float, Tensor

__all__ = ["GhostLayer", "Use", "n_rows"]


@dataclass
class Use:
    """One use of a layer: what went in, and the edge at which its cotangent is found."""

    module: nn.Module
    given: Tensor
    version: int
    edge: GradientEdge


def n_rows(use: Use) -> int:
    """How many rows the layer's input has, one for each row of its output."""
    module, x = use.module, use.given
    if isinstance(module, nn.Embedding):
        return x.numel()
    if isinstance(module, nn.Conv2d):
        batch = x.shape[0] if x.dim() == 4 else 1
        spans = zip(x.shape[-2:], module.kernel_size, module.stride, module.padding, module.dilation, strict=True)
        positions = 1
        for size, kernel, stride, padding, dilation in spans:
            positions *= (size + 2 * cast(int, padding) - dilation * (kernel - 1) - 1) // stride + 1
        return batch * positions
    return x.numel() // x.shape[-1]


@dataclass
class _Part:
    """One use of a layer inside the stacked rows: where its rows begin and end."""

    start: int
    stop: int
    bias: int | None


@dataclass
class GhostLayer:
    """One weight that is passed over: its inputs stacked over its uses, and the tasks' cotangents.

    Args:
        uses: The uses of the weight in this step's graph.
        position: Where each shared parameter stands.
        n_tasks: Number of present tasks.
        scratch: Memory that is used again at the next step.
        key: What tells this layer's memory from another's.
    """

    uses: list[Use]
    position: dict[int, int]
    n_tasks: int
    scratch: dict[tuple[Any, ...], Tensor]
    key: int
    parts: list[_Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        module = self.uses[0].module
        weight: Tensor = module.weight  # type: ignore[assignment]
        self.weight = self.position[id(weight)]
        self.shape = weight.shape
        self.dtype, self.device = weight.dtype, weight.device
        start = 0
        for use in self.uses:
            stop = start + n_rows(use)
            bias = getattr(use.module, "bias", None)
            self.parts.append(_Part(start, stop, self.position.get(id(bias)) if bias is not None else None))
            start = stop
        self.products: Tensor | None = None
        if isinstance(module, nn.Embedding):
            indices = torch.cat([use.given.reshape(-1) for use in self.uses])
            self.rows, self.inverse = indices.unique(return_inverse=True)
            self.ignored = self.rows == module.padding_idx if module.padding_idx is not None else None
            self.inputs = indices
            self.cotangents = self._memory("D", n=len(self.rows), width=weight.shape[1])
        else:
            self.inputs = torch.cat([_unfolded(use) for use in self.uses]).to(self.dtype)
            self.square = self.inputs @ self.inputs.T
            for one in self.parts:
                for other in self.parts:
                    if one.bias is not None and one.bias == other.bias:
                        # A bias is the weight of one more input that is always one.
                        self.square[one.start : one.stop, other.start : other.stop] += 1.0
            self.cotangents = self._memory("D", n=start, width=weight.shape[0])
            self.products = self._memory("KD", n=start, width=weight.shape[0])

    def _memory(self, kind: str, n: int, width: int) -> Tensor:
        key = (kind, self.key, self.n_tasks, n, width, self.dtype, self.device)
        if key not in self.scratch:
            for old in [k for k in self.scratch if k[:2] == key[:2]]:
                del self.scratch[old]
            self.scratch[key] = torch.empty(self.n_tasks, n, width, dtype=self.dtype, device=self.device)
        return self.scratch[key]

    @property
    def edges(self) -> list[GradientEdge]:
        """Where autograd is to leave the cotangents."""
        return [use.edge for use in self.uses]

    def take(self, row: int, cotangents: Sequence[Tensor | None]) -> None:
        """Keep one task's cotangents, and their products with those of the inputs."""
        into = self.cotangents[row]
        if self.products is None:
            into.zero_()
        for use, part, given in zip(self.uses, self.parts, cotangents, strict=True):
            if given is None:
                if self.products is not None:
                    into[part.start : part.stop] = 0
            elif self.products is None:
                into.index_add_(0, self.inverse[part.start : part.stop], _flat(use.module, given).to(self.dtype))
            else:
                into[part.start : part.stop] = _flat(use.module, given)
        if self.products is not None:
            torch.mm(self.square, into, out=self.products[row])
        elif self.ignored is not None:
            into[self.ignored] = 0

    def gramian(self) -> Float[Tensor, "T T"]:
        """Inner products of the weight gradients that were never computed."""
        left = self.cotangents.flatten(1)
        right = left if self.products is None else self.products.flatten(1)
        total = inner_products(left, right)
        norms = total.diagonal()
        if not bool(((norms > SAFE[0]) & (norms < SAFE[1])).all()):
            largest = left.abs().amax(1)
            size = torch.where((largest > 0) & largest.isfinite(), largest, 1.0).unsqueeze(1)
            outer = size.squeeze(1).to("cpu", torch.float64)
            total = inner_products(left / size, right / size) * outer.outer(outer)
        return (total + total.T) / 2

    def combined(self, weights: Float[Tensor, " T"]) -> dict[int, Tensor]:
        """The weighted sums of the gradients of the weight and the biases, by position."""
        mixed = (weights.to(self.cotangents) @ self.cotangents.flatten(1)).view(self.cotangents.shape[1:])
        if self.products is None:
            out = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
            return {self.weight: out.index_add_(0, self.rows, mixed)}
        found = {self.weight: (mixed.T @ self.inputs).view(self.shape)}
        for part in self.parts:
            if part.bias is not None:
                total = mixed[part.start : part.stop].sum(0)
                found[part.bias] = found[part.bias] + total if part.bias in found else total
        return found

    def reached_by(self, cotangents: Sequence[Tensor | None]) -> set[int]:
        """Where the parameters stand that a task with these cotangents reaches."""
        parts = [part for part, given in zip(self.parts, cotangents, strict=True) if given is not None]
        return {self.weight, *(part.bias for part in parts if part.bias is not None)} if parts else set()

    @property
    def positions(self) -> set[int]:
        """Where the parameters stand whose gradients are not taken: the weight's and the biases'."""
        return {self.weight, *(part.bias for part in self.parts if part.bias is not None)}


def _unfolded(use: Use) -> Float[Tensor, "R K"]:
    """The layer's input, one row for each row of its output."""
    module, x = use.module, use.given
    if isinstance(module, nn.Conv2d):
        x = x if x.dim() == 4 else x.unsqueeze(0)
        padding = tuple(int(side) for side in module.padding)
        patches = F.unfold(x, module.kernel_size, module.dilation, padding, module.stride)  # type: ignore[arg-type]
        return patches.transpose(1, 2).flatten(0, 1)
    return x.reshape(-1, x.shape[-1])


def _flat(module: nn.Module, cotangent: Tensor) -> Float[Tensor, "R O"]:
    """A cotangent in the rows of :func:`_unfolded`."""
    if isinstance(module, nn.Conv2d):
        batched = cotangent if cotangent.dim() == 4 else cotangent.unsqueeze(0)
        return batched.flatten(2).transpose(1, 2).flatten(0, 1)
    return cotangent.reshape(-1, cotangent.shape[-1])
