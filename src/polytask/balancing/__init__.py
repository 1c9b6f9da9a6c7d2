"""Balancing: from the tasks' losses to one gradient.

Two folders hold the methods, a file each: :mod:`polytask.balancing.losses` (methods that see loss values only)
and :mod:`polytask.balancing.gradients` (methods that see the gradients or their Gramian).
"""

from __future__ import annotations

import importlib
from typing import Any

from polytask.registry import Registry

_ENGINE = {
    "Balancer": "balancer",
    "Signals": "balancer",
    "Clipped": "clipped",
    "Constrained": "constrained",
    "EveryK": "every_k",
    "Ghost": "ghost",
    "Outcome": "outcome",
    "Report": "outcome",
    "balanced_backward": "backward",
}

__all__ = [
    "Balancer",
    "Clipped",
    "Constrained",
    "EveryK",
    "Ghost",
    "Outcome",
    "Report",
    "Signals",
    "balanced_backward",
    "registry",
]

registry = Registry(
    role="balancer",
    packages=("polytask.balancing.losses", "polytask.balancing.gradients"),
    base="polytask.balancing.balancer:Balancer",
)


def __getattr__(name: str) -> Any:
    if name in _ENGINE:
        return getattr(importlib.import_module(f"polytask.balancing.{_ENGINE[name]}"), name)
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *registry.class_names()])
