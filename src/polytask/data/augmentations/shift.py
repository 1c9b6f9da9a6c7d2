"""Images moved sideways."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from polytask.data.augmentations.augmentation import Augmentation, moved, share_of
from polytask.data.batch import Batch
from polytask.shapes import Tensor

__all__ = ["Shift"]


@dataclass(frozen=True)
class Shift(Augmentation):
    r"""Move each image by whole pixels to the side and up or down; what comes in is black.

    With :math:`m_h` and :math:`m_w` the largest moves in pixels,

    .. math:: x'_{ij} = x_{i + d,\, j + r}, \qquad d \sim U\{-m_h, \dots, m_h\}, \quad r \sim U\{-m_w, \dots, m_w\} .

    Args:
        most: The largest move, as a share of the image's width and height.

    Raises:
        RecipeError: If it is no share.

    Example:
        >>> batch = Batch(torch.ones(1, 1, 4, 4), {}, {}, "images")
        >>> moved = Shift(most=0.25)(batch, torch.Generator().manual_seed(0))
        >>> int(moved.inputs.sum().item()) in (9, 12, 16)
        True

    Note:
        The paper cuts patches out of larger images; here the size stays, and the border that comes in is black. Labels
        of pixels are moved too, others stay: not for tasks whose answer is a place in the image. It costs one padded
        copy of the batch.

    References:
        Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012,
        section 4.1.
    """

    most: float = 0.1
    of_images = True
    moves = True

    def __post_init__(self) -> None:
        share_of("shift", "most", self.most)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with its images moved."""
        first = batch.inputs if isinstance(batch.inputs, Tensor) else next(iter(batch.inputs.values()))
        most = [round(self.most * size) for size in first.shape[2:]]
        down, right = (torch.randint(2 * n + 1, (len(batch), 1), generator=generator) - n for n in most)

        def shifted(x: Tensor) -> Tensor:
            height, width = x.shape[2:]
            # Where a row has several images, one of another size moves by the same share of it.
            lower = (down * height / first.shape[2]).round().long()
            righter = (right * width / first.shape[3]).round().long()
            edge = [int(moves.abs().max()) for moves in (lower, righter)]
            padded = F.pad(x, (edge[1], edge[1], edge[0], edge[0]))
            y, z = lower + edge[0] + torch.arange(height), righter + edge[1] + torch.arange(width)
            rows = torch.arange(len(x))[:, None, None]
            return padded.movedim(1, -1)[rows, y[:, :, None], z[:, None, :]].movedim(-1, 1)

        motion = torch.eye(2, 3).repeat(len(batch), 1, 1)
        motion[:, :, 2] = torch.cat([right, down], 1)
        return moved(batch, shifted, motion)
