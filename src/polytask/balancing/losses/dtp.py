"""Dynamic task prioritisation: focus on the tasks that are hard."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least, within
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["DTP"]

_EDGE = 1e-6


class DTP(Balancer):
    r"""Weigh tasks by how far they are from solved, with a focal loss on a performance figure of each.

    .. math:: w_i = -(1 - \bar\kappa_i)^\gamma \log \bar\kappa_i, \qquad
       \bar\kappa_i \leftarrow \beta \bar\kappa_i + (1 - \beta) \kappa_i

    :math:`\kappa_i \in [0, 1]` is a figure that is one when the task is solved, such as accuracy. Tell the
    balancer with :meth:`observe`; a task never told about uses :math:`\kappa_i = e^{-L_i}`, for a cross-entropy the
    geometric mean of the probabilities of the true classes.

    Args:
        gamma: :math:`\gamma`; the larger, the less a nearly solved task counts.
        momentum: :math:`\beta` of the running average.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = DTP()
        >>> balancer.bind(["easy", "hard"])
        >>> balancer.observe({"easy": 0.9, "hard": 0.3})
        >>> balancer(Signals.of([0.1, 2.0]))
        tensor([0.0105, 0.8428], dtype=torch.float64)

    Note:
        The paper has one :math:`\gamma` per task and orders the tasks in the network as well; here is its weighting.
        The figure from the loss is ours, so that the method runs without metrics. Cost: one backward.

    References:
        Guo et al. (2018). Dynamic task prioritization for multitask learning. ECCV (equations 2 to 4).
    """

    keeps: frozenset[str] = frozenset({"permutation"})
    figure: Tensor
    told: Tensor

    def __init__(self, gamma: float = 1.0, momentum: float = 0.9):
        super().__init__()
        self.gamma = at_least("DTP", "gamma", gamma, 0.0)
        self.momentum = within("DTP", "momentum", momentum, 0.0, 1.0)

    def reset(self, n_tasks: int) -> None:
        """No figure known (NaN), no task told about."""
        self.register_buffer("figure", torch.full((n_tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("told", torch.zeros(n_tasks, dtype=torch.bool))

    def observe(self, figures: Mapping[str, float]) -> None:
        """Tell the balancer performance figures from 0 to 1, such as accuracies of the last evaluation.

        Raises:
            RecipeError: If a task is unknown or a figure is outside the range.
        """
        for name, value in figures.items():
            if name not in self.tasks:
                raise RecipeError(f"DTP observes {name!r}, which is no task. Tasks: {', '.join(self.tasks)}.")
            figure = within("DTP", f"figure of {name!r}", value, 0.0, 1.0)
            i = self.tasks.index(name)
            if not bool(self.told[i]):  # what the losses suggested before is another quantity
                self.figure[i] = torch.nan
            self.told[i] = True
            self._average(torch.tensor([i]), torch.tensor([figure], dtype=torch.float64))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The focal weights of the running figures."""
        untold = ~self.told[signals.index]
        self._average(signals.index[untold], torch.exp(-signals.losses[untold]).clamp(max=1.0))
        figure = self.figure[signals.index].clamp(_EDGE, 1.0 - _EDGE)
        return -((1.0 - figure) ** self.gamma) * figure.log()

    def _average(self, index: Tensor, values: Tensor) -> None:
        index, values = index.to(self.figure.device), values.to(self.figure)
        old = self.figure[index]
        self.figure[index] = torch.where(old.isnan(), values, torch.lerp(values, old, self.momentum))
