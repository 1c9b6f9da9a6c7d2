"""The Gramian of a layer from its inputs and cotangents, without any weight gradient."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, cast

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from polytask.balancing.ghost_layer import GhostLayer, Use, n_rows
from polytask.balancing.graph import Reach
from polytask.shapes import Tensor

__all__ = ["Ghost"]

_KEY = "polytask.ghost"
_KINDS: dict[type[nn.Module], str] = {nn.Linear: "linear", nn.Conv2d: "conv", nn.Embedding: "embedding"}
_PAYS_BELOW = 0.6
_SMALLEST = 2**14


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


def _calls(found: Reach) -> dict[nn.Module, list[Use]]:
    calls: dict[nn.Module, list[Use]] = {}
    for node in found.nodes:
        note = cast(dict[str, Any], node.metadata).get(_KEY)
        if note is not None:
            module, x, version, number = note
            calls.setdefault(module, []).append(Use(module, x, version, GradientEdge(node, number)))
    return calls


def _doubt(modules: Sequence[nn.Module], uses: Sequence[Use], found: Reach, position: dict[int, int]) -> str:
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


def _too_dear(module: nn.Module, uses: Sequence[Use]) -> str:
    """Why weight gradients are cheaper; empty if they are not."""
    rows = sum(n_rows(use) for use in uses)
    if isinstance(module, nn.Embedding):
        width, size = module.num_embeddings, module.weight.numel()
    else:
        weight: Tensor = module.weight  # type: ignore[assignment]
        width, size = weight[0].numel(), weight.numel()
    if size < _SMALLEST:
        return "the layer is small"
    return "" if rows < _PAYS_BELOW * width else f"{rows} rows are not below 0.6 of {width} inputs"
