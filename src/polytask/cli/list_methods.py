"""``polytask list``: the methods there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

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
    "augmentations": "polytask.data.augmentations",
    "samplers": "polytask.data.samplers",
    "schedules": "polytask.training.schedules",
    "remedies": "polytask.training.remedies",
    "linear": "polytask.linear",
    "trees": "polytask.trees",
    "measures": "polytask.affinity.measures",
    "arms": "polytask.study.arms",
    "engines": "polytask.study.engines",
}


_SEARCH = "search"
_SEARCHED = ("sharing", "balancers", "samplers")


def list_methods(
    role: Annotated[
        str, typer.Argument(help=f"One of: {', '.join(ROLES)}; search, what a search tries. All if left out.")
    ] = "",
) -> None:
    """List the methods by the name that the command line and recipes know them by, with a line on each.

    Example: polytask list balancers
    """
    from importlib import import_module

    from polytask.cli.terminal import say
    from polytask.registry import Registry

    if role == _SEARCH:
        _list_searched()
        return
    if role and role not in ROLES:
        raise UnknownNameError("role", role, [*ROLES, _SEARCH])
    for name in [role] if role else list(ROLES):
        registry: Registry = import_module(ROLES[name]).registry
        say(f"{name}:")
        width = max(map(len, registry.names()), default=0)
        for method in registry.names():
            say(f"  {method:<{width}}  {registry.summary(method)}")


def _list_searched() -> None:
    """What ``polytask study --search`` tries of each method's options."""
    from importlib import import_module

    from polytask.cli.terminal import say
    from polytask.study.space import FACTORS, ranges_of, searched_names

    for role in _SEARCHED:
        registry = import_module(ROLES[role]).registry
        say(f"{role}{' (where there are several sources)' if role == 'samplers' else ''}:")
        for method in searched_names(registry):
            say(f"  {method:<14}{_options(ranges_of(registry, method))}".rstrip())
    say(f"training, times the recipe's own:\n  {'':<14}{_options(FACTORS)}")


def _options(ranges: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{option}: {of if not isinstance(of, tuple) else ', '.join(map(str, of))}" for option, of in ranges.items()
    )
