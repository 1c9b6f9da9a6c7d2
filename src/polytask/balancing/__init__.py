"""Balancing: from the tasks' losses to one gradient.

Two folders hold the methods, a file each: :mod:`polytask.balancing.losses` (methods that see loss values only)
and :mod:`polytask.balancing.gradients` (methods that see the gradients or their Gramian).
"""

from __future__ import annotations

from typing import Any

from polytask.registry import Registry

__all__ = ["Balancer", "Signals", "balanced_backward", "registry"]

registry = Registry(
    role="balancer",
    packages=("polytask.balancing.losses", "polytask.balancing.gradients"),
    base="polytask.balancing.balancer:Balancer",
)


def __getattr__(name: str) -> Any:
    if name in ("Balancer", "Signals"):
        from polytask.balancing import balancer

        return getattr(balancer, name)
    if name == "balanced_backward":
        from polytask.balancing.backward import balanced_backward

        return balanced_backward
    return registry.by_class_name(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *registry.class_names()])
