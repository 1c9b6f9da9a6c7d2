"""Sharing: which parts of the network serve which tasks, a file for each way."""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["Sharing", "registry"]

registry = Registry(
    role="sharing",
    packages=("polytask.models.sharing",),
    base="polytask.models.sharing.sharing:Sharing",
    besides=frozenset({"sharing"}),
)


def __getattr__(name: str) -> Any:
    if name == "Sharing":
        from polytask.models.sharing.sharing import Sharing

        return Sharing
    return registry.by_class_name(name)
