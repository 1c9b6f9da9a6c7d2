"""Tasks that share a subspace, but for single coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from polytask.linear.penalties import Entries, Penalty, SingularValues
from polytask.linear.proximal import TwoParts

__all__ = ["LowRankSparse"]


class LowRankSparse(TwoParts):
    r"""The tasks share a subspace, but for single coefficients: a low-rank part plus a sparse part.

    .. math:: \min_{W = L + S} \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2
        + \alpha \Big(\|L\|_* + \text{ratio} \sum_{td} |s_{td}|\Big)

    Args:
        alpha: Strength, above zero.
        ratio: Strength on the sparse part relative to the low-rank part; one or more leaves the sparse part empty,
            ``(T * D) ** -0.5`` or less the low-rank part.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.
        tol: Largest duality gap, relative to the objective, at which to stop.
        max_iter: Most iterations.

    Attributes:
        low_rank_: Part ``L`` [T, D].
        sparse_: Part ``S`` [T, D].

    Raises:
        RecipeError: If ``alpha``, ``ratio`` or ``tol`` is not above zero, or ``max_iter`` is below one.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(80, 4))
        >>> W = np.array([[1.0, 1, 1, 1]] * 5)
        >>> W[2, 3] = -3.0
        >>> np.argwhere(LowRankSparse(alpha=0.5, ratio=0.6).fit(X, X @ W.T).sparse_).tolist()
        [[2, 3]]

    Note:
        Accelerated proximal gradient on both parts at once, stopped on a duality gap. The paper bounds the trace norm
        where this penalises it, which traces the same solutions. The split between the parts need not be unique even
        where their sum is. Cost: a product with the Gram matrices, ``O(T D^2)``, and a singular value decomposition of
        a [T, D] matrix an iteration.

    References:
        Chen, Liu and Ye, "Learning Incoherent Sparse and Low-Rank Patterns from Multiple Tasks", KDD 2010.
    """

    searched: ClassVar[Mapping[str, tuple[float, ...]]] = {"ratio": (0.1, 0.2, 0.4)}
    part_names = ("low_rank_", "sparse_")

    def penalties(self, alpha: float, shape: tuple[int, int]) -> tuple[Penalty, ...]:
        """Trace norm for the low-rank part, all entries for the sparse part."""
        return SingularValues(alpha), Entries(alpha * self.ratio)
