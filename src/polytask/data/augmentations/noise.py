"""Gaussian noise on numbers and pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from polytask.data.augmentations.augmentation import Augmentation, with_numbers
from polytask.data.batch import Batch
from polytask.errors import RecipeError

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise(Augmentation):
    r"""Add Gaussian noise to every number: :math:`x + \sigma \epsilon`.

    Numbers of tables are scaled before, so that ``std`` is in standard deviations; pixels are in 0 to 1.

    Args:
        std: The noise's standard deviation :math:`\sigma`.

    Raises:
        RecipeError: If it is negative.

    Example:
        >>> batch = Batch(torch.zeros(1000, 1), {}, {}, "table")
        >>> noisy = Noise(std=0.5)(batch, torch.Generator().manual_seed(0))
        >>> round(noisy.inputs.std().item(), 1)
        0.5

    Note:
        Codes of categories and other whole numbers stay as they are. Every number has noise of the same size: not for
        numbers whose scales differ. It costs one random number for each number of a batch.

    References:
        Bishop, Training with Noise is Equivalent to Tikhonov Regularization, Neural Computation 1995.
    """

    std: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.std < math.inf:
            raise RecipeError(f"Augmentation 'noise' needs a finite std of at least 0, got {self.std!r}.")

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with noise."""
        return with_numbers(batch, lambda x: x + self.std * torch.randn(x.shape, generator=generator, dtype=x.dtype))
