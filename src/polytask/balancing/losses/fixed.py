"""Weights chosen beforehand."""

from __future__ import annotations

from typing import ClassVar

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, per_task
from polytask.ranges import PER_TASK, Ranges
from polytask.shapes import Float, Tensor

__all__ = ["Fixed"]


class Fixed(Balancer):
    r"""Add the losses up with weights that you choose.

    .. math:: w_i = c_i

    Args:
        weights: By task name (others get one), or one number per task in their order; ``None`` is one each.

    Raises:
        RecipeError: When bound to tasks that the weights do not fit.

    Example:
        >>> balancer = Fixed({"main": 2.0, "helper": 0.1})
        >>> balancer.bind(["main", "helper"])
        >>> balancer(Signals.of([0.5, 2.0]))
        tensor([2.0000, 0.1000], dtype=torch.float64)

    Note:
        Cost: one backward. Two or three numbers found by a search over ``weights`` often match adaptive methods.

    References:
        Kurin et al. (2022). In defense of the unitary scalarization for deep multi-task learning. NeurIPS.
    """

    ranges: ClassVar[Ranges | None] = {"weights": PER_TASK}

    keeps: frozenset[str] = frozenset({"permutation", "single"})
    chosen: Tensor

    def __init__(self, weights: PerTask = None):
        super().__init__()
        self.weights = weights

    def reset(self, n_tasks: int) -> None:
        """Look the weights of the tasks up."""
        self.register_buffer("chosen", per_task("Fixed", "weights", self.weights, self.tasks))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The chosen weights of the present tasks."""
        return self.chosen[signals.index]
