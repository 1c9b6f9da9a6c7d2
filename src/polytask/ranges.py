"""What a search tries of a method's options: plain data beside the method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PER_TASK", "PerTaskRange", "Range", "Ranges"]


@dataclass(frozen=True)
class Range:
    """Numbers that an option may take.

    Args:
        low: The smallest.
        high: The largest.
        log: Whether to search by ratios rather than by differences.
        whole: Whether they are whole numbers.

    Example:
        >>> str(Range(2, 8, whole=True)), str(Range(1e-4, 1.0, log=True))
        ('2 to 8', '0.0001 to 1, by ratios')
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', by ratios' if self.log else ''}"


@dataclass(frozen=True)
class PerTaskRange(Range):
    """Numbers that an option may take, one for each task; they are scaled to a mean of 1."""

    def __str__(self) -> str:
        return f"{super().__str__()}, one for each task"


PER_TASK = PerTaskRange(0.1, 10.0, log=True)

Ranges = Mapping[str, Range | tuple[Any, ...]]
"""By the name of the option: a range, or the values there are."""
