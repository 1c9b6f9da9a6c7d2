"""Options of the command line as plain data."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from polytask.errors import RecipeError

__all__ = ["method_options", "separated", "task_option"]


def separated(text: str) -> list[str]:
    r"""Names between commas; ``\,`` is a comma in a name.

    Example:
        >>> separated(r"a, b,c\,d")
        ['a', 'b', 'c,d']
    """
    names = [name.strip().replace("\0", ",") for name in text.replace("\\,", "\0").split(",")]
    return [name for name in names if name]


def task_option(entry: str) -> tuple[str, dict[str, Any]]:
    """A target as it is written, its kind after a colon, as name and options of a task.

    Example:
        >>> task_option("visits:count"), task_option("price")
        (('visits', {'kind': 'count'}), ('price', {}))
    """
    name, colon, kind = entry.rpartition(":")
    return (name, {"kind": kind}) if colon else (entry, {})


def method_options(settings: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Settings with ``path.to.setting=value`` put in; values are read as YAML.

    Raises:
        RecipeError: If an override has no ``=``, goes through something that holds no settings, or is no YAML.

    Example:
        >>> method_options({"sharing": "hard"}, ["sharing.ratio=0.5", "training.epochs=3"])
        {'sharing': {'name': 'hard', 'ratio': 0.5}, 'training': {'epochs': 3}}
    """
    import yaml

    changed = copy.deepcopy(settings)
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path:
            raise RecipeError(f"--set needs NAME=VALUE, such as training.epochs=5; got {override!r}.")
        *parents, last = path.split(".")
        node = changed
        for parent in parents:
            below = node.setdefault(parent, {})
            if isinstance(below, str):
                below = node[parent] = {"name": below}
            if not isinstance(below, dict):
                raise RecipeError(f"--set {override}: {parent!r} holds no settings.")
            node = below
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {override}: the value is no YAML: {error}") from error
    return changed
