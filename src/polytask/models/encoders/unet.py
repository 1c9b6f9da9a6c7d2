"""An encoder and decoder of images, for tasks of pixels and of whole images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from polytask.errors import InputError, RecipeError
from polytask.models.adapters import ImageAdapter, adapt, image_extents
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape
from polytask.models.maps import as_elements, folded, unfolded
from polytask.shapes import Bool, Float, Inputs, Tensor

__all__ = ["UNet"]


class UNet(Encoder):
    """A U-Net: a vector for each pixel from what is near and what is far, and one for the whole image.

    Blocks of two 3x3 convolutions go down to coarse maps and up again; each on the way up also reads the map of its
    size on the way down. The last stage gives each pixel its vector, and the whole image one from the mean and the
    largest values of the coarsest map. Tasks of pixels read the former, tasks of images the latter.

    Args:
        inputs: Shape of each source's images: one height and width for all, which can be halved once for each of
            ``channels`` but the first.
        channels: Channels of the blocks on the way down, from fine to coarse.
        width: Width of the vectors.

    Shape:
        images ``[B, C, H, W]`` or ``[B, H, W]``, bytes or floats -> ``[B * (H W + 1), width]``, the pixels of an
        image row by row, then the whole image; ``2 n`` stages for ``n`` of ``channels``

    Raises:
        InputError: If sources differ in size, or an image cannot be halved so often.
        RecipeError: If there are fewer than two ``channels``, or the last are too few to be folded.

    Example:
        >>> encoder = UNet({"photos": InputShape.of(torch.zeros(1, 3, 16, 16))}, channels=(8, 16, 32), width=24)
        >>> encoder(torch.zeros(2, 3, 16, 16)).shape, len(encoder.stages)
        (torch.Size([514, 24]), 6)

    Note:
        A stage ends in one tensor, wherever sharing splits: what a later stage needs of finer maps (the paper's skip
        connections), and the coarsest map on the way up, ride along folded into channels. Convolutions are padded, so
        that no pixel is cut off as in the paper; maps grow by doubling each pixel, not by transposed convolutions.
        Memory grows with the pixels: the last stage has a vector for each.

    References:
        Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
        figure 1; Shi et al., "Real-Time Single Image and Video Super-Resolution", CVPR 2016, equation 4 (folding).
    """

    exports: ClassVar[bool] = True
    has_pixels: ClassVar[bool] = True

    def __init__(self, inputs: Mapping[str, InputShape], channels: Sequence[int] = (16, 32, 64), width: int = 64):
        super().__init__(inputs)
        n = len(channels) - 1
        extents = {source: image_extents(shape) for source, shape in inputs.items()}
        before, *size = next(iter(extents.values()))
        _check(channels, extents)
        stem = adapt(inputs, lambda shape: ImageAdapter(shape, before, (size[0], size[1])), share_equal=True)
        stages: list[nn.Module] = [stem.followed_by(_Block(before, channels[0]))]
        carried = [0]  # channels that ride along after each stage on the way down
        for i in range(1, n + 1):
            stages.append(_Down(channels[i - 1], channels[i]))
            carried.append(4 * (channels[i - 1] + carried[-1]))
        deep = 0  # those of the coarsest map, once it rides along too
        for i in range(n, 0, -1):
            stages.append(_Up(channels[i], channels[i - 1], carried[i], carried[i - 1], deep))
            deep = (deep or channels[n]) // 4
        stages.append(_Elements(channels[0], channels[n], n, width))
        self.stages = nn.ModuleList(stages)
        self.width = width

    @staticmethod
    def present(inputs: Inputs) -> Bool[Tensor, "B H W"]:
        """All pixels are there."""
        image = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        return torch.ones((), dtype=torch.bool, device=image.device).expand(image.shape[0], *image.shape[-2:])


class _Block(nn.Sequential):
    def __init__(self, before: int, after: int):
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )


class _Down(nn.Module):
    """A coarser map; the finer one, and what rode along with it, folded behind."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.before = before
        self.block = _Block(before, after)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        coarser = self.block(functional.max_pool2d(x[:, : self.before], 2))
        return torch.cat([coarser, folded(x)], 1)


class _Up(nn.Module):
    """A finer map from a coarse one and that of its own size on the way down."""

    def __init__(self, before: int, after: int, carried: int, left: int, deep: int):
        super().__init__()
        self.parts = [before, carried, deep]
        self.finer = [after, left]
        self.block = _Block(before + after, after)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        coarse, carried, deep = x.split(self.parts, 1)
        same, left = unfolded(carried).split(self.finer, 1)
        out = self.block(torch.cat([functional.interpolate(coarse, scale_factor=2.0), same], 1))
        return torch.cat([out, left, unfolded(deep if self.parts[2] else coarse)], 1)


class _Elements(nn.Module):
    """Vectors of the pixels and of the whole image, from the finest map and the coarsest one folded behind it."""

    def __init__(self, fine: int, coarse: int, times: int, width: int):
        super().__init__()
        self.fine, self.times = fine, times
        self.pixels = nn.Conv2d(fine, width, 1)
        self.whole = nn.Linear(2 * coarse, width)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "BL D"]:
        coarsest = folded(x[:, self.fine :], self.times)
        whole = torch.cat([coarsest.mean((2, 3)), coarsest.amax((2, 3))], 1)
        return as_elements(self.pixels(x[:, : self.fine]), self.whole(whole)).relu()


def _check(channels: Sequence[int], extents: Mapping[str, tuple[int, int, int]]) -> None:
    n = len(channels) - 1
    if n < 1:
        raise RecipeError(f"A U-Net needs the channels of at least two blocks, got {list(channels)}.")
    if channels[n] % 4**n:
        raise RecipeError(
            f"The U-Net's coarsest map is folded {n} times and needs a multiple of {4**n} channels, got {channels[n]}."
        )
    sizes = {source: size[1:] for source, size in extents.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            "A U-Net answers for each pixel, so that the images of all sources need one height and width; got "
            + ", ".join(f"{source}: {h} x {w}" for source, (h, w) in sizes.items())
            + "."
        )
    height, wide = next(iter(sizes.values()))
    if height % 2**n or wide % 2**n:
        raise InputError(
            f"Images of {height} x {wide} cannot be halved {n} times, once for each of the U-Net's channels but the "
            f"first; pad them to multiples of {2**n}, or give fewer channels."
        )
