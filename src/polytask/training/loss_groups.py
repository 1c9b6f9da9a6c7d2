"""Which tasks have one and the same loss function, so that one call does for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from polytask.tasks.task import Task

__all__ = ["Group", "groups_of", "loss_signature"]

_NO_STATE = ("regression", "quantile")
"""Kinds whose loss reads options only, and nothing that was fitted."""
_CLASSES = ("binary", "multiclass", "multilabel", "ordinal")
"""The same, unless they have class weights."""
_NOT_IN_LOSS = ("kind", "name", "target", "weight", "source", "inputs", "class_weight", "positive", "classes", "order")


@dataclass(frozen=True)
class Group:
    """Tasks whose losses are one function.

    Args:
        positions: Where they are among the tasks.
        is_common: Whether the function is the same for all members; it is not where it reads what was fitted.
    """

    positions: tuple[int, ...]
    is_common: bool


def groups_of(tasks: Sequence[Task]) -> list[Group]:
    """The groups of the tasks, which are the same for all members of a stack."""
    by_signature: dict[str, list[int]] = {}
    for i, task in enumerate(tasks):
        by_signature.setdefault(loss_signature(task) or f"own {i}", []).append(i)
    return [Group(tuple(at), not signature.startswith("own")) for signature, at in by_signature.items()]


def loss_signature(task: Task) -> str:
    """Equal for tasks whose loss is the same function; empty if the loss reads what was fitted on the labels."""
    options = task.options()
    has_weights = options.get("class_weight") is not None
    if task.kind not in _NO_STATE and (task.kind not in _CLASSES or has_weights):
        return ""
    rest = {key: value for key, value in options.items() if key not in _NOT_IN_LOSS}
    return json.dumps([task.kind, task.n_outputs, rest], sort_keys=True, default=str)
