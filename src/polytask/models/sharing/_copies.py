"""Copies of a stage that run side by side: dense ones as one grouped product, others in turn."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from polytask.models.stages import BySource, fresh_copy
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["Copies", "StackedLinear"]

_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Dropout, nn.Identity)


class StackedLinear(nn.Module):
    """``n`` dense layers of one shape, their parameters in one tensor each.

    Args:
        layers: The layers whose values are taken over.

    Shape:
        ``[n, B, in]`` -> ``[n, B, out]``; :meth:`spread` takes ``[B, in]``, the same for all
    """

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        has_bias = layers[0].bias is not None
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers])) if has_bias else None

    def reset_parameters(self) -> None:
        """Draw all layers anew, each as a layer of its own would be."""
        bound = self.weight.shape[2] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "n B din"]) -> Float[Tensor, "n B dout"]:
        """Each layer on its own rows."""
        if self.bias is None:
            return torch.bmm(x, self.weight.transpose(1, 2))
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.transpose(1, 2))

    def spread(self, x: Float[Tensor, "B din"]) -> Float[Tensor, "n B dout"]:
        """Every layer on the same rows: one product with a wider matrix."""
        bias = None if self.bias is None else self.bias.flatten()
        wide = functional.linear(x, self.weight.flatten(0, 1), bias)
        each: Tensor = wide.unflatten(1, self.weight.shape[:2])
        return each.transpose(0, 1)


class Copies(nn.Module):
    """``n`` copies of stages, run side by side.

    Stages made of dense layers and elementwise functions keep their parameters stacked and run as one grouped
    product; any other stage runs once for each copy. The first copy has the values of the stages themselves.

    Args:
        stages: The stages to copy, in order; the modules are taken over.
        n: Number of copies.
        fresh: Draw the parameters of the other copies anew; else all copies start equal.

    Shape:
        ``[n, B, ...]`` -> ``[n, B, ...]``; :meth:`spread` takes inputs common to all copies
    """

    def __init__(self, stages: Sequence[nn.Module], n: int, *, fresh: bool = True):
        super().__init__()
        self.n = n
        parts: list[nn.Module] = []
        for stage in stages:
            parts += _parts(stage, n, fresh)
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Float[Tensor, "n B ..."]) -> Float[Tensor, "n B ..."]:
        """Each copy on its own rows."""
        for part in self.parts:
            x = part(x)
        return x

    def spread(self, inputs: Inputs, source: str | None = None) -> Float[Tensor, "n B ..."]:
        """Every copy on the same rows."""
        x, is_common = inputs, True
        for part in self.parts:
            if not is_common:
                x = part(x)
            elif isinstance(part, _Loop):
                x, is_common = part.spread(x, source), False
            elif isinstance(part, StackedLinear):
                x, is_common = part.spread(x), False  # type: ignore[arg-type]
            elif isinstance(part, BySource):
                x = part(x, source)
            elif isinstance(part, nn.Dropout):  # each copy drops its own units
                x, is_common = part(x.expand(self.n, *x.shape)), False  # type: ignore[union-attr]
            else:
                x = part(x)
        return x.expand(self.n, *x.shape) if is_common else x  # type: ignore[union-attr, return-value]


class _Loop(nn.Module):
    """Copies of a stage that cannot be stacked."""

    def __init__(self, stage: nn.Module, n: int, fresh: bool):
        super().__init__()
        again = fresh_copy if fresh else copy.deepcopy
        self.copies = nn.ModuleList([stage, *(again(stage) for _ in range(n - 1))])

    def forward(self, x: Float[Tensor, "n B ..."]) -> Float[Tensor, "n B ..."]:
        return torch.stack([stage(rows) for stage, rows in zip(self.copies, x.unbind(0), strict=True)])

    def spread(self, inputs: Inputs, source: str | None = None) -> Float[Tensor, "n B ..."]:
        if isinstance(self.copies[0], BySource):
            return torch.stack([stage(inputs, source) for stage in self.copies])
        return torch.stack([stage(inputs) for stage in self.copies])


def _parts(stage: nn.Module, n: int, fresh: bool) -> list[nn.Module]:
    if isinstance(stage, BySource):
        if any(True for _ in stage.by_source.parameters()) or any(True for _ in stage.by_source.buffers()):
            return [_Loop(stage, n, fresh)]
        after, stage.after = stage.after, None
        return [stage, *(_parts(after, n, fresh) if after is not None else [])]
    leaves = list(stage) if isinstance(stage, nn.Sequential) else [stage]
    if not all(type(leaf) is nn.Linear or isinstance(leaf, _ELEMENTWISE) for leaf in leaves):
        return [_Loop(stage, n, fresh)]
    again = fresh_copy if fresh else copy.deepcopy
    return [
        StackedLinear([leaf, *(again(leaf) for _ in range(n - 1))]) if isinstance(leaf, nn.Linear) else leaf  # type: ignore[list-item]
        for leaf in leaves
    ]
