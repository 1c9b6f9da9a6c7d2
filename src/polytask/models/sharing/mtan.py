"""Multi-task attention: one trunk, and each task's attention to what each stage offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from polytask.models.encoders.encoder import Encoder
from polytask.models.maps import as_elements
from polytask.models.sharing.sharing import Features, Sharing
from polytask.models.stages import ByName, run_stages, shapes_after
from polytask.shapes import Inputs, Tensor

__all__ = ["MTAN"]


class MTAN(Sharing):
    r"""One trunk for all tasks; each task attends to the output of every stage with soft masks of its own.

    With the trunk's outputs :math:`u_j`, and :math:`a_{t,0}` empty,

    .. math:: a_{t,j} = m_{t,j} \odot u_j, \qquad m_{t,j} = \sigma(G_{t,j}([u_j, B_{t,j}(a_{t,j-1})])),

    where :math:`G` is two pointwise layers (1x1 convolutions on images, dense layers on vectors) and :math:`B` brings
    the last stage's attended output to this stage's size. The last :math:`a_{t,n}` is the task's representation.

    Args:
        encoder: The encoder; all its stages are the trunk.
        tasks: Names of the tasks.
        squeeze: The masks' inner layer has this many times fewer channels than the stage, but at least 8.

    Shape:
        inputs of the encoder -> per task ``[B, D]``

    Example:
        >>> from polytask.models.encoders import registry
        >>> from polytask.models.inputs import InputShape
        >>> encoder = registry.create("cnn", {"main": InputShape.of(torch.zeros(1, 12, 12))}, channels=(4, 8), width=16)
        >>> sharing = MTAN(encoder, ["a", "b"])
        >>> sharing(torch.zeros(2, 12, 12))["b"].shape
        torch.Size([2, 16])

    Note:
        The trunk runs once; masks are light but run for each task. The layers of the masks are normalised over a row's
        channels and positions, not over the batch as in the paper, so that small batches and absent tasks do no harm.

    References:
        Liu et al., "End-to-End Multi-Task Learning with Attention", CVPR 2019, equations 1 and 2.
    """

    interleaved: ClassVar[bool] = True

    def __init__(self, encoder: Encoder, tasks: Sequence[str], squeeze: int = 4):
        super().__init__(encoder, tasks)
        self.trunk = nn.ModuleList(encoder.stages)
        source, shape = next(iter(encoder.inputs.items()))
        shapes = shapes_after(self.trunk, shape, source)
        before: list[tuple[int, ...] | None] = [None, *shapes[:-1]]
        self.attention = ByName(
            {
                task: nn.ModuleList(
                    _Mask(b, s, squeeze, encoder.has_pixels) for b, s in zip(before, shapes, strict=True)
                )
                for task in self.tasks
            }
        )

    def shared(self, inputs: Inputs, tasks: Sequence[str], source: str | None = None) -> Features:
        """The trunk once, and the asked tasks' attention along it."""
        attended: dict[str, Tensor | None] = dict.fromkeys(tasks)
        x: Inputs = inputs
        for index, stage in enumerate(self.trunk):
            x = run_stages((stage,), x, source)
            for task in tasks:
                attended[task] = self.attention[task][index](x, attended[task])  # type: ignore[index]
        return {task: a for task, a in attended.items() if a is not None}

    def reached_by(self, task: str) -> list[nn.Parameter]:
        """The trunk, and the task's own masks."""
        return [*self.trunk.parameters(), *self.attention[task].parameters()]


class _Mask(nn.Module):
    """One task's mask for one stage."""

    def __init__(self, before: tuple[int, ...] | None, shape: tuple[int, ...], squeeze: int, has_pixels: bool):
        super().__init__()
        channels = _channels(shape)
        hidden = max(channels // squeeze, 8)
        self.is_image = len(shape) == 3
        self.size = (shape[-2], shape[-1]) if self.is_image else None
        self.has_pixels = has_pixels
        self.bridge: nn.Module | None = None
        if before is not None and len(before) >= len(shape):
            # From images to a vector, or within one kind; a vector tells nothing about positions.
            self.bridge = _pointwise(_channels(before), channels, self.is_image)
        self.inner = _pointwise(channels * (1 if self.bridge is None else 2), hidden, self.is_image)
        self.norm = nn.GroupNorm(1, hidden) if self.is_image else nn.LayerNorm(hidden)
        self.outer = _pointwise(hidden, channels, self.is_image)

    def forward(self, u: Tensor, before: Tensor | None) -> Tensor:
        read = u
        if self.bridge is not None and before is not None:
            if before.ndim == 4:
                if self.size:
                    before = functional.adaptive_avg_pool2d(before, self.size)
                else:
                    before = as_elements(before) if self.has_pixels else before.mean((2, 3))
            elif before.ndim > u.ndim:
                before = before.flatten(1, -2).mean(1)
            read = torch.cat([u, self.bridge(before).relu()], dim=1 if self.is_image else -1)
        mask: Tensor = self.outer(self.norm(self.inner(read)).relu()).sigmoid()
        return mask * u


def _channels(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 3 else shape[-1]


def _pointwise(before: int, after: int, is_image: bool) -> nn.Module:
    return nn.Conv2d(before, after, 1) if is_image else nn.Linear(before, after)
