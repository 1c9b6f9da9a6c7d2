"""Varied training batches: each source's augmentations, one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from polytask.data.augmentations import registry
from polytask.data.augmentations.augmentation import Augmentation
from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.models.inputs import InputShape

__all__ = ["Variation"]


class Variation:
    """Varies the batches of a step; what it draws depends on the seed and the step only.

    Args:
        asked: Per source, names and options of its augmentations.
        shapes: Shape of each source's inputs.
        seed: Of everything random.

    Raises:
        UnknownNameError: If an augmentation is not known.
        RecipeError: If an option is not one of its, or it varies images and the source has other inputs.
    """

    def __init__(
        self, asked: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]], shapes: Mapping[str, InputShape], seed: int
    ):
        self.seed = seed
        self.by_source: dict[str, list[Augmentation]] = {}
        for source, named in asked.items():
            made = [registry.create(name, **options) for name, options in named]
            for (name, _), augmentation in zip(named, made, strict=True):
                if augmentation.of_images and source in shapes:
                    _check_images(name, source, shapes[source])
            self.by_source[source] = made

    def __call__(self, batches: Sequence[Batch], step: int) -> list[Batch]:
        """The batches of a step, varied."""
        return [self._varied(batch, step, place) for place, batch in enumerate(batches)]

    def _varied(self, batch: Batch, step: int, place: int) -> Batch:
        augmentations = self.by_source.get(batch.source, [])
        if augmentations:
            (seed,) = np.random.SeedSequence([self.seed, 11, step, place]).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(seed) >> 1)
            for augmentation in augmentations:
                batch = augmentation(batch, generator)
        return batch


def _check_images(name: str, source: str, shape: InputShape) -> None:
    others = {key: field.shape for key, field in shape.fields.items() if len(field.shape) != 3}
    if others:
        found = ", ".join(f"{key} of shape {of}" for key, of in others.items())
        raise RecipeError(
            f"Augmentation {name!r} varies images of shape (channels, height, width), and {source!r} has {found}."
        )
