"""The small convolutional network for images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import nn

from polytask.errors import InputError
from polytask.models.adapters import ImageAdapter, adapt, image_extents
from polytask.models.dropout import Dropout
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape

__all__ = ["CNN"]


class CNN(Encoder):
    """Blocks of 3x3 convolution, ReLU and 2x2 max pooling, then one dense layer.

    Images of another size or number of channels than the first source's are met by an adapter.

    Args:
        inputs: Shape of each source's images.
        channels: Channels of each convolution; each block is a stage.
        width: Width of the dense layer, the last stage.
        dropout: Probability of dropping a unit of the dense layer.

    Shape:
        images ``[B, C, H, W]`` or ``[B, H, W]``, bytes or floats -> ``[B, width]``

    Raises:
        InputError: If the images are too small to be halved once per convolution.

    Example:
        >>> import torch
        >>> encoder = CNN({"digits": InputShape.of(torch.zeros(1, 28, 28))})
        >>> encoder(torch.zeros(2, 28, 28)).shape, len(encoder.stages)
        (torch.Size([2, 128]), 3)

    Note:
        The usual small network for small images, with no normalisation layers and no residual connections; for photos
        take ``resnet18``, which costs over a hundred times the arithmetic of a pass on 28 x 28 pixels.
    """

    exports: ClassVar[bool] = True

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        channels: Sequence[int] = (32, 64),
        width: int = 128,
        dropout: float = 0.0,
    ):
        super().__init__(inputs)
        before, *size = image_extents(next(iter(inputs.values())))
        stem = adapt(inputs, lambda shape: ImageAdapter(shape, before, (size[0], size[1])), share_equal=True)
        height, wide = size
        blocks: list[nn.Module] = []
        depth = before
        for after in channels:
            blocks.append(nn.Sequential(nn.Conv2d(depth, after, 3), nn.ReLU(), nn.MaxPool2d(2)))
            depth, height, wide = after, (height - 2) // 2, (wide - 2) // 2
        if min(height, wide) < 1:
            raise InputError(
                f"Images of {size[0]} x {size[1]} are too small for {len(channels)} blocks of convolution and pooling; "
                "give fewer channels, or larger images."
            )
        dense: list[nn.Module] = [nn.Flatten(), nn.Linear(depth * height * wide, width), nn.ReLU()]
        if dropout:
            dense.append(Dropout(dropout))
        last = nn.Sequential(*dense)
        self.stages = nn.ModuleList(
            [stem.followed_by(blocks[0]), *blocks[1:], last] if blocks else [stem.followed_by(last)]
        )
        self.width = width
