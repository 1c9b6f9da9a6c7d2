"""Multipliers: how hard each constraint pulls, from how far it is violated; a file is a method.

A constraint is handed to the engine like a task whose loss is its violation; see
:class:`~polytask.balancing.constrained.Constrained`.
"""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["Multipliers", "registry"]

registry = Registry(
    role="multipliers",
    packages=("polytask.balancing.multipliers",),
    base="polytask.balancing.multipliers.multipliers:Multipliers",
    besides=frozenset({"multipliers"}),
)


def __getattr__(name: str) -> Any:
    if name == "Multipliers":
        from polytask.balancing.multipliers.multipliers import Multipliers

        return Multipliers
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *registry.class_names()])
