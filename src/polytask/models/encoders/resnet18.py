"""A residual network of 18 layers for images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn
from torch.nn import functional

from polytask.models.adapters import ImageAdapter, adapt, image_extents
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape
from polytask.shapes import Tensor

__all__ = ["ResNet18"]


class ResNet18(Encoder):
    """ResNet-18: a stem and four groups of two residual blocks, ending in the mean over positions.

    Images up to 64 pixels wide get the 3x3 stem that is usual for small images, larger ones the 7x7 stem with pooling.

    Args:
        inputs: Shape of each source's images.
        base: Channels of the first group; each group doubles them.

    Shape:
        images ``[B, C, H, W]`` -> ``[B, 8 * base]``; five stages

    Example:
        >>> import torch
        >>> encoder = ResNet18({"photos": InputShape.of(torch.zeros(1, 3, 32, 32))}, base=8)
        >>> encoder(torch.zeros(2, 3, 32, 32)).shape, len(encoder.stages)
        (torch.Size([2, 64]), 5)

    Note:
        It starts from random weights; none are downloaded. Batch normalisation sees the rows of one batch, so that
        batches of few rows give it noisy means. On 28 x 28 pixels a pass costs over a hundred times that of ``cnn``.

    References:
        He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
    """

    exports: ClassVar[bool] = True

    def __init__(self, inputs: Mapping[str, InputShape], base: int = 64):
        super().__init__(inputs)
        channels, *size = image_extents(next(iter(inputs.values())))
        adapters = adapt(inputs, lambda shape: ImageAdapter(shape, channels, (size[0], size[1])), share_equal=True)
        if max(size) <= 64:
            stem = nn.Sequential(nn.Conv2d(channels, base, 3, 1, 1, bias=False), nn.BatchNorm2d(base), nn.ReLU())
        else:
            stem = nn.Sequential(
                nn.Conv2d(channels, base, 7, 2, 3, bias=False),
                nn.BatchNorm2d(base),
                nn.ReLU(),
                nn.MaxPool2d(3, 2, 1),
            )
        groups = []
        for index in range(4):
            before, after = base * 2 ** max(index - 1, 0), base * 2**index
            groups.append(nn.Sequential(_Block(before, after, 1 if index == 0 else 2), _Block(after, after, 1)))
        groups[-1].append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
        self.stages = nn.ModuleList([adapters.followed_by(stem), *groups])
        self.width = base * 8


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))
