"""Study: does joint learning pay, task by task? Arms, folds, verdicts, a recommendation, one bundle."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytask.study.folds import Protocol
    from polytask.study.pareto import pareto_front
    from polytask.study.study import Study

__all__ = ["Protocol", "Study", "pareto_front"]

_HOMES = {
    "Protocol": "polytask.study.folds",
    "Study": "polytask.study.study",
    "pareto_front": "polytask.study.pareto",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'polytask.study' has no attribute {name!r}")
