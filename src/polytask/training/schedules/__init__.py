"""Schedules, a file each: which tasks are trained when."""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["registry"]

registry = Registry(
    role="schedule", packages=("polytask.training.schedules",), base="polytask.training.schedule:Schedule"
)


def __getattr__(name: str) -> Any:
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *registry.class_names()])
