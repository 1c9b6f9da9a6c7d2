"""How often two tasks pull the shared parameters against each other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading
from polytask.affinity.probe import gramians
from polytask.affinity.trace import absent_notes, cosines, mean_over

__all__ = ["ConflictRate"]


class ConflictRate(Measure):
    r"""The share of the moments of a joint training in which two tasks' gradients have a negative product.

    .. math:: A_{ij} = \frac{1}{|S|} \big| \{ s \in S : \langle g_i^s, g_j^s \rangle < 0 \} \big|

    Args:
        looks: At most so many moments, see :class:`~polytask.affinity.measures.gradient_cosine.GradientCosine`.

    Example:
        >>> from polytask.affinity import measure_affinity
        >>> from polytask.data.generators import related_regressions
        >>> made = related_regressions(2, 300, relatedness=1.0, noise=0.0)
        >>> result = measure_affinity(made.frame, list(made.targets), "conflict_rate", seeds=1, training={"epochs": 3})
        >>> result.values[0][1]
        0.0

    Note:
        The same training as that of the gradient cosine, and the same cost. It is coarse (a share of about ten
        moments), and for unrelated tasks it is one half, which grouping takes for neutral.

    References:
        Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020, definition 1.
    """

    words: ClassVar[str] = "share of moments in which the gradients of i and j are opposed"

    def __init__(self, looks: int = 10):
        self.looks = looks

    def read(self, ground: Ground) -> Reading:
        """The matrix for one training."""
        each = np.stack([cosines(found.numpy()) for found in gramians(ground, self.looks)])
        opposed = np.where(np.isfinite(each), each < 0, np.nan)
        return Reading(mean_over(opposed), absent_notes(ground, each))

    def gains(self, values: np.ndarray) -> np.ndarray:
        """Less often opposed than half of the time is good."""
        gains: np.ndarray = 0.5 - values
        return gains
