"""Affinity: which tasks belong together. Measures of what tasks do for each other, and groups made from them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.affinity.finding import find_affinity
    from polytask.affinity.grouping import group_tasks
    from polytask.affinity.measure import Measure, Reading
    from polytask.affinity.readings import measure_affinity
    from polytask.affinity.record import AffinityRecord

__all__ = ["AffinityRecord", "Measure", "Reading", "find_affinity", "group_tasks", "measure_affinity"]

_HOMES = {
    "AffinityRecord": "polytask.affinity.record",
    "Measure": "polytask.affinity.measure",
    "Reading": "polytask.affinity.measure",
    "find_affinity": "polytask.affinity.finding",
    "group_tasks": "polytask.affinity.grouping",
    "measure_affinity": "polytask.affinity.readings",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'polytask.affinity' has no attribute {name!r}")
