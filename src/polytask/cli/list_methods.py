"""``polytask list``: the methods there are."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.errors import UnknownNameError

__all__ = ["list_methods"]

# Each role's registry by its place; none of these modules imports torch.
ROLES = {
    "tasks": "polytask.tasks",
    "encoders": "polytask.models.encoders",
    "sharing": "polytask.models.sharing",
    "balancers": "polytask.balancing",
    "multipliers": "polytask.balancing.multipliers",
    "samplers": "polytask.data.samplers",
    "schedules": "polytask.training.schedules",
    "remedies": "polytask.training.remedies",
    "linear": "polytask.linear",
    "trees": "polytask.trees",
    "measures": "polytask.affinity.measures",
    "arms": "polytask.study.arms",
    "engines": "polytask.study.engines",
}


def list_methods(
    role: Annotated[str, typer.Argument(help=f"One of: {', '.join(ROLES)}. All if left out.")] = "",
) -> None:
    """List the methods by the name that the command line and recipes know them by, with a line on each."""
    from importlib import import_module

    from polytask.cli.terminal import say
    from polytask.registry import Registry

    if role and role not in ROLES:
        raise UnknownNameError("role", role, ROLES)
    for name in [role] if role else list(ROLES):
        registry: Registry = import_module(ROLES[name]).registry
        say(f"{name}:")
        width = max(map(len, registry.names()), default=0)
        for method in registry.names():
            say(f"  {method:<{width}}  {registry.summary(method)}")
