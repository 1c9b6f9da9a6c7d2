"""Varied training batches: each source's augmentations, one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from polytask.data.augmentations import registry
from polytask.data.augmentations.augmentation import Augmentation
from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.models.inputs import InputShape
from polytask.tasks.task import Task
from polytask.training.ranks import here

__all__ = ["Variation"]


class Variation:
    """Varies the batches of a step; what it draws depends on the seed and the step only, and on the process.

    Args:
        asked: Per source, names and options of its augmentations.
        shapes: Shape of each source's inputs.
        seed: Of everything random.
        tasks: The tasks, whose labels follow images that are moved.

    Raises:
        UnknownNameError: If an augmentation is not known.
        RecipeError: If an option is not one of its, it varies images and the source has other inputs, or it moves
            images whose labels cannot follow.
    """

    def __init__(
        self,
        asked: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]],
        shapes: Mapping[str, InputShape],
        seed: int,
        tasks: Sequence[Task] = (),
    ):
        self.seed = seed
        self.tasks = {task.name: task for task in tasks}
        self.by_source: dict[str, list[Augmentation]] = {}
        for source, named in asked.items():
            made = [registry.create(name, **options) for name, options in named]
            for (name, _), augmentation in zip(named, made, strict=True):
                if augmentation.of_images and source in shapes:
                    _check_images(name, source, shapes[source])
            _check_moves(source, dict(zip([name for name, _ in named], made, strict=True)), tasks)
            self.by_source[source] = made

    def __call__(self, batches: Sequence[Batch], step: int) -> list[Batch]:
        """The batches of a step, varied."""
        return [self._varied(batch, step, place) for place, batch in enumerate(batches)]

    def _varied(self, batch: Batch, step: int, place: int) -> Batch:
        augmentations = self.by_source.get(batch.source, [])
        if augmentations:
            generator = torch.Generator().manual_seed(here().own_seed(self.seed, 11, step, place))
            for augmentation in augmentations:
                batch = augmentation(batch, generator)
            batch = self._labels_moved(batch)
        return batch

    def _labels_moved(self, batch: Batch) -> Batch:
        """The batch with labels of pixels where its images were moved."""
        if batch.motion is None:
            return batch
        targets, observed = dict(batch.targets), dict(batch.observed)
        for name in targets:
            if name in self.tasks:
                targets[name], observed[name] = self.tasks[name].moved(targets[name], observed[name], batch.motion)
        return replace(batch, targets=targets, observed=observed)


def _check_images(name: str, source: str, shape: InputShape) -> None:
    others = {key: field.shape for key, field in shape.fields.items() if len(field.shape) != 3}
    if others:
        found = ", ".join(f"{key} of shape {of}" for key, of in others.items())
        raise RecipeError(
            f"Augmentation {name!r} varies images of shape (channels, height, width), and {source!r} has {found}."
        )


def _check_moves(source: str, made: Mapping[str, Augmentation], tasks: Sequence[Task]) -> None:
    """Raise if images are moved whose labels cannot follow."""
    moving = [name for name, augmentation in made.items() if augmentation.moves]
    if not moving:
        return
    here = [task for task in tasks if task.source in (None, source)]
    for task in here:
        if task.of_inputs:
            raise RecipeError(
                f"Augmentation {moving[0]!r} moves the images of {source!r}, and {task.who} rebuilds them where they "
                "were: leave one of the two out."
            )
    names = list(made)
    if any(task.of_pixels for task in here) and "mixup" in names and names.index("mixup") < names.index(moving[-1]):
        raise RecipeError(
            f"Augmentation {moving[-1]!r} comes after 'mixup' for {source!r}, and the labels of pixels of two mixed "
            "images cannot both follow one motion: give 'mixup' last."
        )
