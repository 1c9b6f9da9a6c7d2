"""Models: encoders, sharing, heads, and the network that joins them."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {"ModelSpec": "spec", "MultiTaskModel": "model", "build_model": "building"}

__all__ = ["ModelSpec", "MultiTaskModel", "build_model"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"polytask.models.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
