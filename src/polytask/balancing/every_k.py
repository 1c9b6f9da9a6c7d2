"""Solve for the weights at every k-th step and keep them in between."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.balancing.balancer import SEES_GRADIENTS, Balancer, Signals
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["EveryK"]


class EveryK(Balancer):
    """Keep a method's exact weights for ``k`` steps, so that a step costs ``1 + (X - 1) / k`` instead of ``X``.

    The weights are solved at one step and used at the ``k - 1`` steps that follow, where one weighted backward is
    enough. A step in which a task appears that has no kept weight is solved at once.

    Args:
        balancer: The method whose weights are kept; its kept weights are part of its own ``state_dict``.
        k: Steps from one solution to the next.

    Raises:
        RecipeError: If ``k`` is below one, or the method's gradient is no weighted sum of the tasks' gradients.

    Example:
        >>> import torch
        >>> class ByNorm(Balancer):
        ...     needs = frozenset({"gramian"})
        ...     def weigh(self, signals):
        ...         return signals.gramian.diagonal().rsqrt()
        >>> every = EveryK(ByNorm(), k=2)
        >>> every.bind(["a", "b"])
        >>> first = Signals(torch.arange(2), torch.ones(2).double(), torch.diag(torch.tensor([1.0, 4.0])).double())
        >>> sorted(every.needs_in(first)), every.weigh(first).tolist()
        (['gramian'], [1.0, 0.5])
        >>> then = Signals(torch.arange(2), torch.ones(2).double())
        >>> sorted(every.needs_in(then)), every.weigh(then).tolist()
        (['losses'], [1.0, 0.5])

    Note:
        The direction is not the exact method's between two solutions. Used by Nash-MTL's authors with k = 1 to 100.

    References:
        Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, section 4 (updating weights every few steps).
    """

    def __init__(self, balancer: Balancer, k: int = 10):
        super().__init__()
        if k < 1:
            raise RecipeError(f"EveryK needs k of one or more, got {k}.")
        if "every_k" not in balancer.modes and balancer.needs & SEES_GRADIENTS:
            raise RecipeError(
                f"{type(balancer).__name__} has no weights to keep; it runs in: {', '.join(balancer.modes)}."
            )
        self.balancer = balancer
        self.k = k
        self.needs = balancer.needs
        self.keeps = balancer.keeps
        self.tasks = balancer.tasks

    def bind(self, tasks: Sequence[str]) -> None:
        """Bind the method itself."""
        self.balancer.bind(tasks)
        self.tasks = self.balancer.tasks

    def needs_in(self, signals: Signals) -> frozenset[str]:
        """Only the losses while every present task has a weight that is young enough."""
        return frozenset({"losses"}) if self._is_fresh(signals) else self.balancer.needs_in(signals)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The kept weights, or new ones when it is time."""
        kept = self.balancer.keep()
        is_fresh = self._is_fresh(signals)
        kept.age += 1
        if is_fresh:
            return kept.at(signals.index)
        weights: Tensor = self.balancer(signals)
        kept.store(signals.index, weights)
        return weights

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Those of the method itself."""
        return self.balancer.head_weights(signals, weights)

    def after_step(self, signals: Signals) -> None:
        """Passed on to the method."""
        self.balancer.after_step(signals)

    def _is_fresh(self, signals: Signals) -> bool:
        return self.balancer.keep().is_young(signals.index, self.k - 1)
