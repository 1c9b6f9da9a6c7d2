"""The augmentation's contract: a batch in, a varied batch out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import torch

from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["Augmentation", "moved", "share_of", "with_numbers"]


class Augmentation(ABC):
    """Varies the rows of a training batch; validation and test rows are never touched.

    Everything random comes from the generator, which depends on the seed and the step only, so that a resumed training
    goes on bit for bit.

    Class attributes:
        of_images: Whether every input must be an image, ``[B, C, H, W]``.
        moves: Whether it moves images, and says how in the batch's ``motion``: labels of pixels follow.
    """

    of_images: ClassVar[bool] = False
    moves: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The varied batch; the one given is left as it is."""


def with_numbers(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with its numbers changed; codes of categories stay."""
    inputs = batch.inputs
    if isinstance(inputs, Tensor):
        return replace(batch, inputs=change(inputs) if inputs.is_floating_point() else inputs)
    return replace(batch, inputs={k: change(x) if x.is_floating_point() else x for k, x in inputs.items()})


def moved(batch: Batch, change: Callable[[Tensor], Tensor], motion: Float[Tensor, "B 2 3"]) -> Batch:
    """The batch with its images changed, and how they were moved, after earlier moves."""
    if batch.motion is not None:
        bottom = motion.new_tensor([0.0, 0.0, 1.0]).expand(len(motion), 1, 3)
        motion = batch.motion @ torch.cat([motion, bottom], 1)
    return replace(with_numbers(batch, change), motion=motion)


def share_of(who: str, option: str, value: float) -> None:
    """Raise if an option is no share.

    Raises:
        RecipeError: If it is not between 0 and 1.
    """
    if not 0.0 <= value <= 1.0:
        raise RecipeError(f"Augmentation {who!r} needs {option} from 0 to 1, got {value!r}.")
