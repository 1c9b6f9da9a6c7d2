"""Parts of the inputs left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from polytask.data.augmentations.augmentation import Augmentation, share_of, with_numbers
from polytask.data.batch import Batch
from polytask.shapes import Tensor

__all__ = ["Cutout"]


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Set a random rectangle of each image, or a random part of a table's numbers, to zero.

    Zero is black in an image and the middle of a scaled number.

    Args:
        share: Of an image's area, or of the numbers.

    Raises:
        RecipeError: If it is no share.

    Example:
        >>> batch = Batch(torch.ones(2, 1, 8, 8), {}, {}, "images")
        >>> cut = Cutout(share=0.25)(batch, torch.Generator().manual_seed(0))
        >>> (cut.inputs == 0).sum(dim=(1, 2, 3)).tolist()
        [16, 16]

    Note:
        The paper's square may reach over the border, so that less is cut there; here it lies inside. It costs one
        masked copy of the batch.

    References:
        DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        share_of("cutout", "share", self.share)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with parts left out."""

        def cut(x: Tensor) -> Tensor:
            if x.ndim != 4:
                return x * (torch.rand(x.shape, generator=generator) >= self.share).to(x.dtype)
            rows, columns = (_inside(len(x), size, self.share**0.5, generator) for size in x.shape[2:])
            return x.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)

        return with_numbers(batch, cut)


def _inside(n: int, size: int, share: float, generator: torch.Generator) -> Tensor:
    """For each of ``n`` images, which of ``size`` places lie in a random interval."""
    length = round(share * size)
    start = (torch.rand(n, 1, generator=generator) * (size - length + 1)).long()
    places = torch.arange(size)
    return (places >= start) & (places < start + length)
