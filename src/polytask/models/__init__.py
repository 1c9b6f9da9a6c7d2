"""Models: encoders, sharing, heads, and the network that joins them."""

from __future__ import annotations

from typing import Any

__all__ = ["MultiTaskModel", "build_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from polytask.models import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
