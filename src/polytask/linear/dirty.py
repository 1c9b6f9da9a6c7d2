"""Features shared by all tasks, plus coefficients of one task alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from polytask.linear.penalties import Entries, LargestPerFeature, Penalty
from polytask.linear.proximal import TwoParts

__all__ = ["Dirty"]


class Dirty(TwoParts):
    r"""Some features serve all tasks, others a single one: coefficients are a shared part plus a private part.

    .. math:: \min_{W = P + Q} \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2
        + \alpha \Big(\sum_d \max_t |p_{td}| + \text{ratio} \sum_{td} |q_{td}|\Big)

    Args:
        alpha: Strength, above zero.
        ratio: Strength on the private part relative to the shared part; with T tasks, one or more leaves the
            private part empty, 1/T or less the shared part.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.
        tol: Largest duality gap, relative to the objective, at which to stop.
        max_iter: Most iterations.

    Attributes:
        shared_: Part ``P`` [T, D]: whole features in or out.
        private_: Part ``Q`` [T, D]: single coefficients in or out.

    Raises:
        RecipeError: If ``alpha``, ``ratio`` or ``tol`` is not above zero, or ``max_iter`` is below one.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(80, 4))
        >>> Y = np.stack([X[:, 0], X[:, 0] + X[:, 1], X[:, 0]], axis=1)
        >>> model = Dirty(alpha=0.1, ratio=0.6).fit(X, Y)
        >>> (model.shared_ != 0).any(0).tolist(), np.argwhere(model.private_).tolist()
        ([True, False, False, False], [[1, 1]])

    Note:
        Accelerated proximal gradient on both parts at once, stopped on a duality gap. The split between the parts need
        not be unique even where their sum is. Columns of the paper are rows here. Cost: a product with the
        Gram matrices an iteration, ``O(T D^2)``.

    References:
        Jalali, Ravikumar, Sanghavi and Ruan, "A Dirty Model for Multi-task Learning", NeurIPS 2010.
    """

    searched: ClassVar[Mapping[str, tuple[float, ...]]] = {"ratio": (0.1, 0.3, 0.7)}
    part_names = ("shared_", "private_")

    def penalties(self, alpha: float, shape: tuple[int, int]) -> tuple[Penalty, ...]:
        """Largest entry per feature for the shared part, all entries for the private part."""
        return LargestPerFeature(alpha), Entries(alpha * self.ratio)
