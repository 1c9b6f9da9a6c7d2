"""Images turned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from polytask.data.augmentations.augmentation import Augmentation, moved
from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.shapes import Tensor

__all__ = ["Rotate"]


@dataclass(frozen=True)
class Rotate(Augmentation):
    r"""Turn each image around its middle, with bilinear interpolation; what comes in is black.

    With :math:`c` the middle of the image, :math:`R_\phi` the turn by an angle :math:`\phi`, and :math:`a` the
    largest one,

    .. math:: x'(p) = x(R_\phi (p - c) + c), \qquad \phi \sim U(-a, a) .

    Args:
        degrees: The largest angle, to either side.

    Raises:
        RecipeError: If it is not from 0 to 180.

    Example:
        >>> batch = Batch(torch.ones(1, 1, 5, 5), {}, {}, "images")
        >>> turned = Rotate(degrees=20)(batch, torch.Generator().manual_seed(0))
        >>> turned.inputs[0, 0, 2, 2].item()
        1.0

    Note:
        One angle for each row, for all its images. The interpolation blurs, and corners are lost. Labels of pixels are
        turned too, others stay: not for tasks whose answer depends on the direction. It costs one interpolation of each
        image.

    References:
        Simard, Steinkraus and Platt, Best Practices for Convolutional Neural Networks Applied to Visual Document
        Analysis, ICDAR 2003.
    """

    degrees: float = 10.0
    of_images = True
    moves = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.degrees <= 180.0:
            raise RecipeError(f"Augmentation 'rotate' needs degrees from 0 to 180, got {self.degrees!r}.")

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with its images turned."""
        angle = (2.0 * torch.rand(len(batch), generator=generator) - 1.0) * math.radians(self.degrees)
        sine, cosine = torch.sin(angle), torch.cos(angle)

        def turned(x: Tensor) -> Tensor:
            height, width = x.shape[2:]
            # Grid coordinates run from -1 to 1 on both sides, so that a turn of a long image is scaled.
            zero = torch.zeros_like(angle)
            across = torch.stack([cosine, -sine * height / width, zero], dim=-1)
            down = torch.stack([sine * width / height, cosine, zero], dim=-1)
            grid = F.affine_grid(torch.stack([across, down], dim=1).to(x.dtype), list(x.shape), align_corners=False)
            return F.grid_sample(x, grid, align_corners=False)

        first = batch.inputs if isinstance(batch.inputs, Tensor) else next(iter(batch.inputs.values()))
        y, x = (size / 2 for size in first.shape[2:])
        motion = torch.stack(
            [
                torch.stack([cosine, -sine, x - cosine * x + sine * y], dim=-1),
                torch.stack([sine, cosine, y - sine * x - cosine * y], dim=-1),
            ],
            dim=1,
        )
        return moved(batch, turned, motion)
