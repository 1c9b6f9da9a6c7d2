"""Images moved sideways."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from polytask.data.augmentations.augmentation import Augmentation, share_of, with_numbers
from polytask.data.batch import Batch
from polytask.shapes import Tensor

__all__ = ["Shift"]


@dataclass(frozen=True)
class Shift(Augmentation):
    """Move each image by whole pixels to the side and up or down; what comes in is black.

    Args:
        most: The largest move, as a share of the image's width and height.

    Raises:
        RecipeError: If it is no share.

    Example:
        >>> batch = Batch(torch.ones(1, 1, 4, 4), {}, {}, "images")
        >>> moved = Shift(most=0.25)(batch, torch.Generator().manual_seed(0))
        >>> int(moved.inputs.sum().item()) in (9, 12, 16)
        True

    References:
        Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012,
        section 4.1.
    """

    most: float = 0.1
    of_images = True

    def __post_init__(self) -> None:
        share_of("shift", "most", self.most)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with its images moved."""

        def moved(x: Tensor) -> Tensor:
            height, width = x.shape[2:]
            down, right = round(self.most * height), round(self.most * width)
            padded = F.pad(x, (right, right, down, down))
            y = torch.randint(2 * down + 1, (len(x), 1), generator=generator) + torch.arange(height)
            z = torch.randint(2 * right + 1, (len(x), 1), generator=generator) + torch.arange(width)
            rows = torch.arange(len(x))[:, None, None]
            return padded.movedim(1, -1)[rows, y[:, :, None], z[:, None, :]].movedim(-1, 1)

        return with_numbers(batch, moved)
