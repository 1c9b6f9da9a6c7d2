"""Random loss weights."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.draws import Draws
from polytask.shapes import Float, Tensor

__all__ = ["RLW"]


class RLW(Balancer):
    r"""Draw new weights at every step; a baseline that a clever method has to beat.

    .. math:: w = \mathrm{softmax}(z), \qquad z \sim \mathcal N(0, I)

    Args:
        seed: The draws depend on it and on the number of steps alone.

    Example:
        >>> weights = RLW(seed=1)(Signals.of([0.5, 2.0, 1.0]))
        >>> bool(weights.sum().isclose(torch.tensor(1.0, dtype=torch.float64)))
        True

    Note:
        The weights add up to one, as in the paper, so the step is on average a T-th of plain summation's. Heads see the
        same random weights; with :class:`~polytask.balancing.RandomGradients` they see one. Cost: one backward.

    References:
        Lin et al. (2022). Reasonable effectiveness of random weighting: a litmus test for multi-task learning. TMLR.
    """

    keeps: frozenset[str] = frozenset({"single"})

    def __init__(self, seed: int = 0):
        super().__init__()
        self.draws = Draws(seed)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """A softmax of normal draws over the present tasks."""
        return torch.softmax(torch.from_numpy(self.draws.numpy().standard_normal(len(signals.losses))), dim=0)
