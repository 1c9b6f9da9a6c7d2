"""Factors on the losses of a task's classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytask.errors import TargetError
from polytask.tasks._labels import Classes, shown

__all__ = ["class_weights", "restored_weights", "stored_weights"]


def class_weights(who: str, classes: Classes, rule: Any) -> np.ndarray:
    """Factor on the loss of a label of each class, 1 for the average observed training label.

    Args:
        who: For messages.
        classes: The classes and their counts.
        rule: ``None`` for ones, ``"balanced"`` for the inverse of the class's frequency, or weights by class
            (classes left out have 1).

    Raises:
        TargetError: If a class is unknown or a weight is negative or not finite, or all seen classes have weight 0.
    """
    if rule is None:
        return np.ones(len(classes))
    counts = np.array(classes.counts, dtype=np.float64)
    if rule == "balanced":
        weights = 1 / np.maximum(counts, 1)
    elif isinstance(rule, dict):
        unknown = [label for label in rule if label not in classes.names]
        if unknown:
            raise TargetError(f"{who} has a class weight for {unknown[0]!r}. Known: {shown(classes.names)}.")
        weights = np.array([float(rule.get(name, 1.0)) for name in classes.names])
    else:
        raise TargetError(f"{who} needs class_weight None, 'balanced' or weights by class, got {rule!r}.")
    mean = (weights * counts).sum() / counts.sum()
    if not (np.isfinite(weights).all() and (weights >= 0).all() and mean > 0):
        raise TargetError(f"{who} needs finite class weights of at least 0, not all 0, got {rule!r}.")
    return np.asarray(weights / mean)


def stored_weights(rule: Any) -> Any:
    """A class-weight option as JSON can hold it: a dict becomes pairs, because JSON turns keys into text."""
    return [[label, weight] for label, weight in rule.items()] if isinstance(rule, dict) else rule


def restored_weights(rule: Any) -> Any:
    """The class-weight option that :func:`stored_weights` was given."""
    return dict(rule) if isinstance(rule, list | tuple) else rule
