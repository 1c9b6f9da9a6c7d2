"""Tasks that use the same few features, with a ridge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from polytask.linear.model import Solution
from polytask.linear.moments import Intercept, Problem, Scale
from polytask.linear.penalties import Features, Penalty
from polytask.linear.proximal import ProximalModel
from polytask.linear.rows import Array

__all__ = ["ElasticNet"]


class ElasticNet(ProximalModel):
    r"""Joint feature selection with a ridge, so that correlated features are kept together.

    .. math:: \min_W \tfrac{1}{2 n} \sum_t \|y_t - X_t w_t\|^2 + \alpha \rho \sum_d \|(w_{1d}, \dots, w_{Td})\|_2
        + \tfrac{\alpha (1 - \rho)}{2} \|W\|_F^2

    Args:
        alpha: Strength, above zero.
        l1_ratio: The share ``rho`` of feature selection: above zero; one is :class:`~polytask.linear.l21.L21`.
        intercept: ``own``: each task its own, free of penalty; ``joint``: inputs and labels are centred at their
            means over all tasks, and a constant feature, penalised like the others, sets tasks apart; ``none``.
        scale: ``inputs``: divide features by their spread, pooled over the tasks; ``both``: targets too, by each
            task's own spread; ``none``. Coefficients are returned in the user's units.
        tol: Largest duality gap, relative to the objective, at which to stop.
        max_iter: Most iterations.

    Raises:
        RecipeError: If ``alpha`` or ``tol`` is not above zero, ``l1_ratio`` not above zero and at most one, or
            ``max_iter`` below one.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(50, 4))
        >>> Y = np.stack([X[:, 0] + X[:, 1], X[:, 0] - X[:, 1]], axis=1)
        >>> (ElasticNet(alpha=0.2).fit(X, Y).coef_ != 0).any(0).tolist()
        [True, True, False, False]

    Note:
        The ridge enters the Gram matrices; what remains is :class:`~polytask.linear.l21.L21`, with its solver and
        its duality gap. On complete targets and shared rows this is scikit-learn's ``MultiTaskElasticNet`` with the
        same ``alpha`` and ``l1_ratio``. Cost: a product with the Gram matrices an iteration, ``O(T D^2)``.

    References:
        Zou and Hastie, "Regularization and Variable Selection via the Elastic Net", Journal of the Royal Statistical
        Society B 2005; for several tasks see :class:`~polytask.linear.l21.L21`.
    """

    searched: ClassVar[Mapping[str, tuple[float, ...]]] = {"l1_ratio": (0.1, 0.5, 0.9)}

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        intercept: Intercept = "own",
        scale: Scale = "none",
        tol: float = 1e-6,
        max_iter: int = 5000,
    ):
        super().__init__(alpha, intercept=intercept, scale=scale, tol=tol, max_iter=max_iter)
        self.l1_ratio = l1_ratio

    def check_settings(self) -> None:
        """Raise if a setting is out of its range."""
        super().check_settings()
        self._require(
            "l1_ratio", lambda share: 0 < share <= 1, "above zero and at most one (Independent is ridge alone)"
        )

    def solve(self, problem: Problem, alpha: float, start: Array | None = None) -> Solution:
        """Minimise, with the ridge as part of the loss."""
        return super().solve(problem.with_ridge(alpha * (1 - self.l1_ratio)), alpha, start)

    def penalties(self, alpha: float, shape: tuple[int, int]) -> tuple[Penalty, ...]:
        """The norm across tasks, summed over features."""
        return (Features(alpha * self.l1_ratio),)
