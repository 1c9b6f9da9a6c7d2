"""Conformance checks for authors of plug-ins: one call says whether a new method keeps its role's contract."""

from __future__ import annotations

import importlib
from typing import Any

_CHECKS = {
    "check_augmentation": "augmentations",
    "check_balancer": "balancers",
    "check_encoder": "encoders",
    "check_measure": "measures",
    "check_multipliers": "multipliers",
    "check_remedy": "schedules",
    "check_sampler": "samplers",
    "check_schedule": "schedules",
    "check_sharing": "sharing",
    "check_task": "tasks",
}
"""Where each check is; imported when it is asked for."""

__all__ = sorted(_CHECKS)


def __getattr__(name: str) -> Any:
    if name in _CHECKS:
        return getattr(importlib.import_module(f"polytask.testing.{_CHECKS[name]}"), name)
    raise AttributeError(f"module 'polytask.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_CHECKS)
