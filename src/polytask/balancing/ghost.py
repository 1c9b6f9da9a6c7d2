"""The Gramian of a layer from its inputs and cotangents, without any weight gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

import torch
from torch import nn
from torch.autograd.graph import GradientEdge
from torch.nn import functional as F

from polytask.balancing.graph import Reach
from polytask.balancing.rows import SAFE, inner_products
from polytask.shapes import Float, Tensor

__all__ = ["Ghost", "GhostLayer"]

_KEY = "polytask.ghost"
_KINDS: dict[type[nn.Module], str] = {nn.Linear: "linear", nn.Conv2d: "conv", nn.Embedding: "embedding"}
_PAYS_BELOW = 0.6
_SMALLEST = 2**14


@dataclass
class _Call:
    """One use of a layer: what went in, and the edge at which its cotangent is found."""

    module: nn.Module
    given: Tensor
    version: int
    edge: GradientEdge


class Ghost:
    """Watch a trunk's layers, so that :func:`balanced_backward` can pass over their weight gradients.

    A linear layer with inputs ``A`` and cotangents ``D_t`` has the gradients ``D_t.T A``; their inner products are
    ``sum(D_s * (A A.T D_t))``, which is cheaper than the gradients when the rows of ``A`` are fewer than 0.6 of its
    columns, and needs no memory of the size of the weights. Convolutions are the same after unfolding; embeddings
    sum the cotangents of equal indices. A layer for which this is not cheaper or not surely right (shared with
    something that is not watched, frozen, parametrised, with hooks of its own) keeps its weight gradients, and
    ``outcome.report.layers`` says why.

    Args:
        modules: The modules to watch, with everything in them.

    Example:
        >>> from polytask.balancing import NashMTL, balanced_backward
        >>> trunk, heads = nn.Linear(400, 400), [nn.Linear(400, 1) for _ in range(2)]
        >>> with Ghost(trunk) as ghost:
        ...     z = trunk(torch.randn(8, 400))
        ...     losses = [head(z).square().mean() for head in heads]
        ...     outcome = balanced_backward(losses, trunk.parameters(), z, balancer=NashMTL(), ghost=ghost)
        >>> dict(outcome.report.layers)
        {'': 'ghost'}

    Note:
        The inputs are kept alive by the graph they belong to and die with it. ``nn.GRU``, ``nn.LSTM``,
        ``nn.MultiheadAttention`` and normalisation layers always keep their own gradients.

    References:
        Goodfellow (2015). Efficient per-example gradient computations. arXiv:1510.01799 (section 4).
    """

    def __init__(self, *modules: nn.Module):
        self.names: dict[nn.Module, str] = {}
        for root in modules:
            for name, module in root.named_modules():
                if type(module) in _KINDS:
                    self.names.setdefault(module, name)
        self._handles = [module.register_forward_hook(_record) for module in self.names]
        self.scratch: dict[tuple[Any, ...], Tensor] = {}

    def remove(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.scratch.clear()

    def __enter__(self) -> Ghost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def plan(self, found: Reach, shared: Sequence[Tensor], n_tasks: int) -> tuple[list[GhostLayer], dict[str, str]]:
        """The layers to do without weight gradients, and for every watched layer what was decided."""
        position = {id(p): i for i, p in enumerate(shared)}
        calls = _calls(found)
        by_weight: dict[int, list[nn.Module]] = {}
        for module in self.names:
            if module in calls:
                by_weight.setdefault(id(module.weight), []).append(module)
        layers: list[GhostLayer] = []
        decided: dict[str, str] = {}
        for modules in by_weight.values():
            uses = [call for module in modules for call in calls[module]]
            reason = _doubt(modules, uses, found, position) or _too_dear(modules[0], uses)
            for module in modules:
                decided[self.names[module]] = f"native: {reason}" if reason else "ghost"
            if not reason:
                layers.append(GhostLayer(uses, position, n_tasks, self.scratch, len(layers)))
        return layers, decided


def _record(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
    """Leave the layer's input on the node of its output."""
    if not torch.is_grad_enabled() or not isinstance(output, Tensor) or output.grad_fn is None or len(given) != 1:
        return
    x = given[0].detach()
    cast(dict[str, Any], output.grad_fn.metadata)[_KEY] = (module, x, x._version, output.output_nr)


def _calls(found: Reach) -> dict[nn.Module, list[_Call]]:
    calls: dict[nn.Module, list[_Call]] = {}
    for node in found.nodes:
        note = cast(dict[str, Any], node.metadata).get(_KEY)
        if note is not None:
            module, x, version, number = note
            calls.setdefault(module, []).append(_Call(module, x, version, GradientEdge(node, number)))
    return calls


def _doubt(modules: Sequence[nn.Module], uses: Sequence[_Call], found: Reach, position: dict[int, int]) -> str:
    """Why the layer's own inputs may not tell all of its weight's gradient; empty if they surely do."""
    first = modules[0]
    if len({type(module) for module in modules}) > 1:
        return "the weight is shared by layers of different kinds"
    if id(first.weight) not in position:
        return "the weight is frozen, not shared, or computed"
    if any("forward" in vars(m) or len(m._forward_hooks) > 1 or m._backward_hooks for m in modules):
        return "the layer has hooks of its own"
    if len(found.consumers.get(id(first.weight), ())) != len(uses):
        return "the weight is also used outside the layer"
    biases = {id(b): b for m in modules if isinstance(b := getattr(m, "bias", None), Tensor) and id(b) in position}
    for key in biases:
        owners = [use for use in uses if id(getattr(use.module, "bias", None)) == key]
        if len(found.consumers.get(key, ())) != len(owners):
            return "the bias is also used outside the layer"
    if any(use.given._version != use.version for use in uses):
        return "the layer's input was changed in place"
    if isinstance(first, nn.Conv2d) and (
        first.groups != 1 or first.padding_mode != "zeros" or isinstance(first.padding, str)
    ):
        return "the convolution is grouped or padded in a special way"
    if isinstance(first, nn.Embedding) and (first.sparse or first.scale_grad_by_freq or first.max_norm is not None):
        return "the embedding's gradient is sparse, scaled or renormed"
    return ""


def _too_dear(module: nn.Module, uses: Sequence[_Call]) -> str:
    """Why weight gradients are cheaper; empty if they are not."""
    rows = sum(_n_rows(use) for use in uses)
    if isinstance(module, nn.Embedding):
        width, size = module.num_embeddings, module.weight.numel()
    else:
        weight: Tensor = module.weight  # type: ignore[assignment]
        width, size = weight[0].numel(), weight.numel()
    if size < _SMALLEST:
        return "the layer is small"
    return "" if rows < _PAYS_BELOW * width else f"{rows} rows are not below 0.6 of {width} inputs"


def _n_rows(use: _Call) -> int:
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

    uses: list[_Call]
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
            stop = start + _n_rows(use)
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


def _unfolded(use: _Call) -> Float[Tensor, "R K"]:
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
