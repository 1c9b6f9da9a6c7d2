"""Encoders: inputs to a representation, in stages at which sharing may split them."""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["Encoder", "registry"]

registry = Registry(
    role="encoder",
    packages=("polytask.models.encoders",),
    base="polytask.models.encoders.encoder:Encoder",
    besides=frozenset({"encoder"}),
)


def __getattr__(name: str) -> Any:
    if name == "Encoder":
        from polytask.models.encoders.encoder import Encoder

        return Encoder
    return registry.by_class_name(name)
