"""Augmentations: how a source's batches are varied in training; a file is a method."""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["Augmentation", "registry"]

registry = Registry(
    role="augmentation",
    packages=("polytask.data.augmentations",),
    base="polytask.data.augmentations.augmentation:Augmentation",
    besides=frozenset({"augmentation"}),
)


def __getattr__(name: str) -> Any:
    if name == "Augmentation":
        from polytask.data.augmentations.augmentation import Augmentation

        return Augmentation
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *registry.class_names()])
