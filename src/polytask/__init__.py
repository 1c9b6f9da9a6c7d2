"""Multi-task learning: from data with several targets to one model, and the evidence that it is the better one.

Names are loaded when they are asked for, so that ``import polytask`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.balancing.backward import balanced_backward
    from polytask.bundle import Bundle, load
    from polytask.estimators import MultiTaskEstimator
    from polytask.extending import extend
    from polytask.recipe import Recipe
    from polytask.study import Study

__version__ = "0.1.0"
__all__ = ["Bundle", "MultiTaskEstimator", "Recipe", "Study", "balanced_backward", "extend", "load"]

_HOMES = {
    "Bundle": "polytask.bundle",
    "MultiTaskEstimator": "polytask.estimators",
    "Recipe": "polytask.recipe",
    "Study": "polytask.study.study",
    "balanced_backward": "polytask.balancing.backward",
    "extend": "polytask.extending",
    "load": "polytask.bundle",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'polytask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
