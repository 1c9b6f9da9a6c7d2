"""Input adapters: sources of different shapes meet one trunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional

from polytask.errors import InputError
from polytask.models.inputs import InputShape
from polytask.models.stages import BySource
from polytask.shapes import Inputs, Tensor

__all__ = ["FlatAdapter", "ImageAdapter", "adapt"]


def adapt(inputs: Mapping[str, InputShape], make: Callable[[InputShape], nn.Module], *, share_equal: bool) -> BySource:
    """One adapter per source; sources of equal shape get the same one if ``share_equal``."""
    made: dict[str, nn.Module] = {}
    for source, shape in inputs.items():
        twin = next((other for other in made if share_equal and inputs[other] == shape), None)
        made[source] = make(shape) if twin is None else made[twin]
    return BySource(made)


class FlatAdapter(nn.Module):
    """Flattens every field and concatenates them; projects to ``width`` if asked.

    Args:
        shape: The source's inputs.
        width: Output width, or ``None`` for the concatenation as it is.

    Shape:
        fields ``[B, ...]`` -> ``[B, width]``

    Raises:
        InputError: If a field holds integer codes.
    """

    def __init__(self, shape: InputShape, width: int | None = None):
        super().__init__()
        coded = [name for name, field in shape.fields.items() if field.cardinalities]
        if coded:
            raise InputError(
                f"This encoder reads numbers, but {', '.join(coded)} holds categories. Take the encoder tabm or "
                "tabular, or leave the columns of categories out. An encoder of your own that reads tables embeds the "
                "fields numeric, categorical and molecule with FieldsEmbedding."
            )
        self.names = tuple(shape.fields)
        self.n_values = sum(field.n_values for field in shape.fields.values())
        self.projection = nn.Identity() if width is None else nn.Linear(self.n_values, width)

    def forward(self, inputs: Inputs) -> Tensor:
        """Concatenate, then project."""
        if isinstance(inputs, Tensor):
            flat = inputs.flatten(1)
        else:
            flat = torch.cat([inputs[name].flatten(1) for name in self.names], dim=1)
        out: Tensor = self.projection(flat)
        return out


class ImageAdapter(nn.Module):
    """Brings images to the trunk's number of channels and size.

    A difference in size is met by bilinear resizing, one in channels by a learned 1x1 convolution.

    Args:
        shape: The source's inputs: one field of shape ``(C, H, W)``, or ``(H, W)`` for one channel.
        channels: Channels of the trunk's input.
        size: Height and width of the trunk's input.

    Raises:
        InputError: If the source is not one image a row.
    """

    def __init__(self, shape: InputShape, channels: int, size: tuple[int, int]):
        super().__init__()
        extents = image_extents(shape)
        self.size = size
        self.resizes = extents[1:] != size
        self.projection = nn.Identity() if extents[0] == channels else nn.Conv2d(extents[0], channels, 1)

    def forward(self, inputs: Inputs) -> Tensor:
        """Resize and project; pixels stored as bytes are scaled to [0, 1]."""
        image = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
        if image.dtype == torch.uint8:
            image = image.to(self.dtype) / 255
        if image.ndim == 3:
            image = image.unsqueeze(1)
        if self.resizes:
            image = functional.interpolate(image, size=self.size, mode="bilinear", align_corners=False, antialias=True)
        out: Tensor = self.projection(image)
        return out

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters, or the default type when there are none."""
        return next((p.dtype for p in self.parameters()), torch.get_default_dtype())


def image_extents(shape: InputShape) -> tuple[int, int, int]:
    """``(C, H, W)`` of a source of images.

    Raises:
        InputError: If the source is not one image a row.
    """
    fields = list(shape.fields.values())
    if len(fields) != 1 or len(fields[0].shape) not in (2, 3) or fields[0].cardinalities:
        raise InputError(
            "An image encoder needs one image a row, of shape (C, H, W) or (H, W); "
            f"got { ({name: field.shape for name, field in shape.fields.items()}) }."
        )
    extents = fields[0].shape
    return (1, *extents) if len(extents) == 2 else (extents[0], extents[1], extents[2])
