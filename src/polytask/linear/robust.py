"""Tasks that share a subspace, but for a few outlier tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from polytask.linear.penalties import Penalty, SingularValues, Tasks
from polytask.linear.proximal import TwoParts

__all__ = ["Robust"]


class Robust(TwoParts):
    r"""Most tasks share a subspace, a few do not belong: coefficients are a low-rank part plus whole outlier tasks.

    .. math:: \min_{W = L + S} \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2
        + \alpha \Big(\|L\|_* + \text{ratio} \sum_t \|s_t\|_2\Big)

    Args:
        alpha: Strength, above zero.
        ratio: Strength on the outlier part relative to the low-rank part; with T tasks, one or more leaves the
            outlier part empty, ``T ** -0.5`` or less the low-rank part.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.
        tol: Largest duality gap, relative to the objective, at which to stop.
        max_iter: Most iterations.

    Attributes:
        low_rank_: Part ``L`` [T, D].
        outlier_: Part ``S`` [T, D]; a row that is not zero marks a task that does not belong.

    Raises:
        RecipeError: If ``alpha``, ``ratio`` or ``tol`` is not above zero, or ``max_iter`` is below one.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(80, 4))
        >>> W = np.array([[1.0, 1, 0, 0]] * 6 + [[0, 0, 2.0, -2]])
        >>> Robust(alpha=0.5, ratio=0.7).fit(X, X @ W.T).outlier_.any(1).tolist()
        [False, False, False, False, False, False, True]

    Note:
        Accelerated proximal gradient on both parts at once, stopped on a duality gap. The split between the parts need
        not be unique even where their sum is. Cost: a product with the Gram matrices, ``O(T D^2)``, and a singular
        value decomposition of a [T, D] matrix an iteration.

    References:
        Chen, Zhou and Ye, "Integrating Low-Rank and Group-Sparse Structures for Robust Multi-Task Learning",
        KDD 2011.
    """

    searched: ClassVar[Mapping[str, tuple[float, ...]]] = {"ratio": (0.2, 0.4, 0.8)}
    part_names = ("low_rank_", "outlier_")

    def penalties(self, alpha: float, shape: tuple[int, int]) -> tuple[Penalty, ...]:
        """Trace norm for the low-rank part, norms of whole tasks for the outlier part."""
        return SingularValues(alpha), Tasks(alpha * self.ratio)
