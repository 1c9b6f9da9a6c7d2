"""Joint forests: trees whose splits serve all targets at once, with the scikit-learn API.

Each module that is not named in ``besides`` holds one estimator; it is imported when it is asked for.
"""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["registry"]

registry = Registry(
    role="tree model",
    packages=("polytask.trees",),
    base="polytask.trees.model:TreeModel",
    besides=frozenset({"columns", "growing", "model", "nodes", "targets"}),
)


def __getattr__(name: str) -> Any:
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *registry.class_names()])
