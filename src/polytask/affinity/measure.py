"""The contract of a measure: one seed's ground in, a matrix of tasks by tasks out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from polytask.affinity.ground import Ground

__all__ = ["Measure", "Reading"]


@dataclass
class Reading:
    """What a measure found with one seed.

    Args:
        values: ``[T, T]``, float64: row i, column j is what task i does for task j. NaN where it is not known, and on
            the diagonal where a task's own value has no meaning.
        notes: Why values are not known, and the like.
    """

    values: np.ndarray
    notes: tuple[str, ...] = ()


class Measure(ABC):
    """A number for each pair of tasks: what learning one does for the other, or how alike they are.

    A measure reads training and validation rows only, never a test row; it works with missing labels, with several
    sources, with a task that is absent from a batch, and with one task. What it cannot know is NaN, with a note.

    Class attributes:
        words: What a value means, in half a sentence; row i, column j.
        directed: Whether what i does for j may differ from what j does for i.
        has_zero: Whether zero separates help from harm. If not, only the order of the values counts, and grouping
            takes the median of all pairs for neutral.
        halves: Whether each two seeds read two halves of the training rows that have no row in common, so that the
            spread over seeds tells what other rows would have given. If not, seeds differ in trainings only.
        trains: Whether networks are trained for it.
    """

    words: ClassVar[str]
    directed: ClassVar[bool] = False
    has_zero: ClassVar[bool] = True
    halves: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    @abstractmethod
    def read(self, ground: Ground) -> Reading:
        """The matrix for one seed."""

    def gains(self, values: np.ndarray) -> np.ndarray:
        """Values as grouping adds them up: above zero where i is good for j, in this measure's units."""
        return values if self.has_zero else above_middle(values)


def above_middle(values: np.ndarray) -> np.ndarray:
    """Values less the median of those of pairs that are known.

    Example:
        >>> above_middle(np.array([[np.nan, 0.2], [0.6, np.nan]])).round(3).tolist()
        [[nan, -0.2], [0.2, nan]]
    """
    pairs = values[~np.eye(len(values), dtype=bool)]
    known = pairs[np.isfinite(pairs)]
    centred: np.ndarray = values - (np.median(known) if len(known) else 0.0)
    return centred
