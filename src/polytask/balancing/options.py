"""Checks on the options of the methods, and options that hold one number per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import SupportsFloat, TypeAlias

import torch

from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["PerTask", "at_least", "per_task", "preferences", "within"]

PerTask: TypeAlias = "Mapping[str, float] | Sequence[float] | None"
"""One number per task: by task name, or in the order of the tasks; ``None`` is the method's default."""


def within(who: str, option: str, value: float, low: float, high: float) -> float:
    """``value`` if ``low <= value <= high``.

    Raises:
        RecipeError: Naming the option and its range otherwise (a NaN is outside every range).

    Example:
        >>> within("RLW", "spread", 2.0, 0.0, 1.0)
        Traceback (most recent call last):
        polytask.errors.RecipeError: RLW needs an option spread from 0.0 to 1.0, got 2.0.
    """
    if not low <= value <= high:
        raise RecipeError(f"{who} needs an option {option} from {low} to {high}, got {value}.")
    return value


def at_least(who: str, option: str, value: float, low: float, *, above: bool = False) -> float:
    """``value`` if it is at least ``low``, or with ``above`` greater.

    Raises:
        RecipeError: Naming the option and its bound otherwise.

    Example:
        >>> at_least("DWA", "temperature", 0.0, 0.0, above=True)
        Traceback (most recent call last):
        polytask.errors.RecipeError: DWA needs an option temperature above 0.0, got 0.0.
    """
    if not (value > low if above else value >= low) or value == float("inf"):
        raise RecipeError(f"{who} needs an option {option} {'above' if above else 'of at least'} {low}, got {value}.")
    return value


def per_task(who: str, option: str, values: PerTask, tasks: Sequence[str], default: float = 1.0) -> Float[Tensor, " T"]:
    """The option's number for each task, float64.

    Raises:
        RecipeError: If it names a task that there is not, has another length, or a number is negative or not finite.

    Example:
        >>> per_task("MGDA", "preference", {"b": 3.0}, ["a", "b"])
        tensor([1., 3.], dtype=torch.float64)
    """
    if values is None:
        given = [default] * len(tasks)
    elif isinstance(values, str | int | float):
        raise RecipeError(f"{who}: option {option} takes one number per task, by name or in a list; got {values!r}.")
    elif isinstance(values, Mapping):
        unknown = [name for name in values if name not in tasks]
        if unknown:
            raise RecipeError(
                f"{who}: option {option} names {unknown[0]!r}, which is no task. Tasks: {', '.join(tasks)}."
            )
        given = [values.get(name, default) for name in tasks]
    else:
        given = list(values)
    if other := [value for value in given if isinstance(value, str | bytes) or not isinstance(value, SupportsFloat)]:
        raise RecipeError(f"{who}: option {option} takes one number per task; got {other[0]!r} among them.")
    numbers = [float(value) for value in given]
    if len(numbers) != len(tasks):
        raise RecipeError(f"{who}: option {option} has {len(numbers)} numbers for {len(tasks)} tasks.")
    if not all(0.0 <= number < float("inf") for number in numbers):
        raise RecipeError(f"{who}: option {option} must be finite and not negative, got {numbers}.")
    return torch.tensor(numbers, dtype=torch.float64)


def preferences(who: str, values: PerTask, tasks: Sequence[str]) -> Float[Tensor, " T"]:
    """The option ``preference``, scaled to mean one, float64.

    Raises:
        RecipeError: As :func:`per_task`, and if no task is preferred at all.

    Example:
        >>> preferences("MGDA", {"b": 3.0}, ["a", "b"])
        tensor([0.5000, 1.5000], dtype=torch.float64)
    """
    numbers = per_task(who, "preference", values, tasks)
    if len(numbers) and not bool(numbers.sum() > 0.0):
        raise RecipeError(f"{who}: option preference must be above 0 for one task at least, got {numbers.tolist()}.")
    return numbers / numbers.mean()
