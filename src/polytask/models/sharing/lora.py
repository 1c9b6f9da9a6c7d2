"""Low-rank adaptation: one trunk, and a low-rank change of its weights for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from polytask.errors import RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.sharing._frozen import set_frozen, train_but_frozen
from polytask.models.sharing._towers import repeated
from polytask.models.sharing.sharing import Features, Sharing
from polytask.models.stages import ByName, run_stages
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["LoRA"]

_ALL = ""
"""Whose a change is that all tasks have in common; no task has this name."""


class LoRA(Sharing):
    r"""One trunk for all tasks, whose dense layers and convolutions each task changes by a matrix of low rank.

    A layer with weight :math:`W` computes, for task :math:`t` with :math:`A_t \in R^{r \times d}`,
    :math:`B_t \in R^{m \times r}`,

    .. math:: W x + b + \frac{\alpha}{r} B_t A_t x .

    Args:
        encoder: The encoder; all its stages are the trunk.
        tasks: Names of the tasks.
        rank: :math:`r`; at 0 the tasks have the trunk's representation in common.
        alpha: :math:`\alpha`; the rank if not given, so that the factor is one.
        freeze: Whether the trunk stays as it is, for an encoder that is trained already.
        common: Whether all tasks have one change in common, instead of one each.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Raises:
        RecipeError: If the rank is negative, or the encoder has no layer that can be adapted.

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("mlp", {"main": InputShape.of(torch.zeros(1, 4))}, widths=(8, 8))
        >>> sharing = LoRA(encoder, ["a", "b"], rank=2)
        >>> sharing(torch.zeros(3, 4))["b"].shape, sharing.count_parameters()
        (torch.Size([3, 8]), {'shared': 112, 'private': 112})

    Note:
        :math:`B_t` starts at zero, so that every task starts with the trunk alone. The asked tasks run as one batch of
        T times the rows; the changes of dense layers run as two grouped products. Grouped convolutions are not adapted.

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, equation 3.
    """

    interleaved: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[str],
        rank: int = 8,
        alpha: float | None = None,
        freeze: bool = False,
        common: bool = False,
    ):
        super().__init__(encoder, tasks)
        if rank < 0:
            raise RecipeError(f"LoRA needs a rank of at least 0, got {rank}.")
        self.rank, self.freeze, self.common = rank, freeze, common
        self.trunk = nn.ModuleList(encoder.stages)
        set_frozen(self.trunk, freeze)
        self._running = _Running()
        if rank:
            scale = 1.0 if alpha is None else alpha / rank
            changes = (_ALL,) if common else self.tasks
            adapted = _adapt(self.trunk, lambda base: _Adapted(base, changes, rank, scale, self._running))
            if not adapted:
                raise RecipeError("LoRA found neither a dense layer nor a convolution in the encoder.")

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """One batch that holds each row once for each task."""
        if not self.rank or self.common:
            self._running.tasks = (_ALL,)
            return dict.fromkeys(tasks, run_stages(self.trunk, inputs, source))
        self._running.tasks = tuple(tasks)
        x: Tensor = run_stages(self.trunk, repeated(inputs, len(tasks)), source)
        return dict(zip(tasks, x.unflatten(0, (len(tasks), -1)).unbind(0), strict=True))

    def train(self, mode: bool = True) -> LoRA:
        """A frozen trunk stays as in prediction."""
        train_but_frozen(super().train(mode), self.trunk, self.freeze)
        return self

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk's own weights, and the task's changes."""
        if self.common:
            return list(self.trunk.parameters())
        layers = [part for part in self.trunk.modules() if isinstance(part, _Adapted)]
        others = {
            id(p) for layer in layers for name in self.tasks if name != task for p in layer.changes[name].parameters()
        }
        return [p for p in self.trunk.parameters() if id(p) not in others]


@dataclass
class _Running:
    """Which tasks are in the batch that runs, in order."""

    tasks: tuple[str, ...] = ()


class _Change(nn.Module):
    """One task's low-rank change of one layer."""

    down: nn.Parameter
    up: nn.Parameter

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int):
        super().__init__()
        n_out, *rest = base.weight.shape
        self.down = nn.Parameter(torch.empty(rank, *rest))
        bound = self.down[0].numel() ** -0.5
        nn.init.uniform_(self.down, -bound, bound)
        self.up = nn.Parameter(torch.zeros(n_out, rank))


class _Adapted(nn.Module):
    """A layer with a change for each task."""

    def __init__(self, base: nn.Linear | nn.Conv2d, tasks: Sequence[str], rank: int, scale: float, running: _Running):
        super().__init__()
        self.base, self.scale, self.running = base, scale, running
        self.changes = ByName({task: _Change(base, rank) for task in tasks})

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        changes = [self.changes[task] for task in self.running.tasks]
        by_task = x.unflatten(0, (len(changes), -1))
        if isinstance(self.base, nn.Conv2d):
            added = torch.cat([self._convolved(rows, c) for rows, c in zip(by_task.unbind(0), changes, strict=True)])  # type: ignore[arg-type]
            return out + self.scale * added
        rows = by_task.flatten(1, -2)
        down = torch.stack([c.down for c in changes])  # type: ignore[misc]
        up = torch.stack([c.up for c in changes])  # type: ignore[misc]
        added = torch.bmm(torch.bmm(rows, down.transpose(1, 2)), up.transpose(1, 2))
        return out + self.scale * added.view(out.shape)

    def _convolved(self, rows: Float[Tensor, "B C H W"], change: _Change) -> Tensor:
        base: nn.Conv2d = self.base  # type: ignore[assignment]
        low = functional.conv2d(rows, change.down, None, base.stride, base.padding, base.dilation)
        return functional.conv2d(low, change.up[:, :, None, None])


def _adapt(module: nn.Module, make: Callable[[nn.Linear | nn.Conv2d], nn.Module]) -> int:
    """Put an adapted layer in the place of every dense layer and convolution; tells how many there were."""
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(module.modules()):
        if isinstance(parent, nn.TransformerEncoderLayer):
            # In prediction such a layer reads the weights of its parts instead of calling them, unless its activation
            # is one that it does not know.
            parent.activation_relu_or_gelu = 0
        for name, child in list(parent.named_children()):
            # Exactly these types: a subclass may be read by its owner without being called.
            is_plain = type(child) is nn.Linear or (type(child) is nn.Conv2d and child.groups == 1)
            if (
                is_plain
                and isinstance(child, nn.Linear | nn.Conv2d)
                and getattr(child, "padding_mode", "zeros") == "zeros"
            ):
                made.setdefault(child, make(child))
                setattr(parent, name, made[child])
    return len(made)
