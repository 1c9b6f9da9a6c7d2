"""Whether two tasks pull the shared parameters the same way."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading
from polytask.affinity.probe import gramians
from polytask.affinity.trace import absent_notes, cosines, mean_over

__all__ = ["GradientCosine"]


class GradientCosine(Measure):
    r"""The cosine of two tasks' gradients at the shared parameters, over the training of one joint network.

    .. math:: A_{ij} = \frac{1}{|S|} \sum_{s \in S}
        \frac{\langle g_i^s, g_j^s \rangle}{\lVert g_i^s \rVert \, \lVert g_j^s \rVert},
        \qquad g_i^s = \nabla_{\theta_\mathrm{shared}} L_i(\theta^s),

    where S are moments of the training, dense at its beginning; from the Gramian of the balancing engine.

    Args:
        looks: At most so many moments.

    Example:
        >>> from polytask.affinity import measure_affinity
        >>> from polytask.data.generators import related_regressions
        >>> made = related_regressions(2, 300, relatedness=1.0, noise=0.0)
        >>> options = {"seeds": 1, "training": {"epochs": 3}}
        >>> result = measure_affinity(made.frame, list(made.targets), "gradient_cosine", **options)
        >>> result.values[0][1] > 0
        True

    Note:
        One joint training for all pairs, and at each look one backward pass a task. Gradients of few rows are mostly
        noise, which pulls cosines to zero; each look therefore reads 512 rows of each source, and more for tasks with
        few labels among them. A cosine says what the next step does to the training loss, not what a whole training
        does to unseen rows.

    References:
        Du et al., "Adapting auxiliary losses using gradient similarity", 2018; Yu et al., "Gradient surgery for
        multi-task learning", NeurIPS 2020; Fifty et al., "Efficiently identifying task groupings", NeurIPS 2021, where
        it is a baseline.
    """

    words: ClassVar[str] = "mean cosine of the gradients of i and j at the shared parameters"

    def __init__(self, looks: int = 10):
        self.looks = looks

    def read(self, ground: Ground) -> Reading:
        """The matrix for one training."""
        each = np.stack([cosines(found.numpy()) for found in gramians(ground, self.looks)])
        return Reading(mean_over(each), absent_notes(ground, each))
