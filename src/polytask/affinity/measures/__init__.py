"""Measures of what tasks do for each other, a file each."""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["registry"]

registry = Registry(role="measure", packages=("polytask.affinity.measures",), base="polytask.affinity.measure:Measure")


def __getattr__(name: str) -> Any:
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *registry.class_names()])
