"""Dynamic weight average."""

from __future__ import annotations

from typing import ClassVar

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least
from polytask.ranges import Range, Ranges
from polytask.shapes import Float, Tensor

__all__ = ["DWA"]


class DWA(Balancer):
    r"""Give more weight to tasks whose loss falls slowly, by the ratio of its last two averages.

    .. math:: w_i = T \, \mathrm{softmax}_i(r_i / \tau), \qquad r_i = \bar L_i^{(t-1)} / \bar L_i^{(t-2)}

    Args:
        temperature: :math:`\tau`; the larger, the more even.
        period: Steps over which a loss is averaged; ``None`` averages over epochs.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = DWA(temperature=1.0, period=1)
        >>> balancer.bind(["slow", "fast"])
        >>> for losses in ([1.0, 1.0], [1.0, 0.5]):
        ...     weights = balancer(Signals.of(losses))
        >>> weights
        tensor([1., 1.], dtype=torch.float64)
        >>> balancer(Signals.of([1.0, 0.4]))
        tensor([1.2449, 0.7551], dtype=torch.float64)

    Note:
        As in the paper, weights are equal until two averages are known, task by task. In one's own loop without epochs
        set ``period``. The ratio is of averages of observed losses, so that a task that is absent for a whole
        period keeps its last two. Cost: one backward.

    References:
        Liu, Johns, Davison (2019). End-to-end multi-task learning with attention. CVPR (equation 7).
    """

    ranges: ClassVar[Ranges | None] = {"temperature": Range(0.5, 8.0, log=True)}

    keeps: frozenset[str] = frozenset({"permutation", "single"})
    total: Tensor
    count: Tensor
    last: Tensor
    before: Tensor
    clock: Tensor

    def __init__(self, temperature: float = 2.0, period: int | None = None):
        super().__init__()
        self.temperature = at_least("DWA", "temperature", temperature, 0.0, above=True)
        self.period = None if period is None else int(at_least("DWA", "period", period, 1))

    def reset(self, n_tasks: int) -> None:
        """Running sums of this period, averages of the last two (NaN: not known yet), and the clock."""
        for name in ("total", "count"):
            self.register_buffer(name, torch.zeros(n_tasks, dtype=torch.float64))
        for name in ("last", "before"):
            self.register_buffer(name, torch.full((n_tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("clock", torch.zeros(2, dtype=torch.int64))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights by the last two averages; then this step's losses join the running ones."""
        steps, period = self.clock.tolist()
        now = signals.epoch if self.period is None else steps // self.period
        if now != period:
            self._turn()
            self.clock[1] = now
        self.clock[0] = steps + 1
        ratio = (self.last / self.before)[signals.index]
        ratio = torch.where(ratio.isfinite(), ratio, 1.0)
        self.total.index_add_(0, signals.index, signals.losses)
        self.count.index_add_(0, signals.index, torch.ones_like(signals.losses))
        return len(ratio) * torch.softmax(ratio / self.temperature, dim=0)

    def _turn(self) -> None:
        seen = self.count > 0
        self.before[seen] = self.last[seen]
        self.last[seen] = (self.total / self.count)[seen]
        self.total.zero_()
        self.count.zero_()
