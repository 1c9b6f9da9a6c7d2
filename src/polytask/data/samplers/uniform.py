"""Every source equally often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from polytask.data.sampler import Sampler
from polytask.ranges import Ranges

__all__ = ["Uniform"]


@dataclass(frozen=True)
class Uniform(Sampler):
    r"""Draws every source equally often, so that small sources are gone through several times in an epoch.

    .. math:: p_s = 1 / S

    Example:
        >>> Uniform().shares({"digits": 30, "letters": 10}, epoch=0)
        {'digits': 0.5, 'letters': 0.5}

    Note:
        A source much smaller than the others is repeated often and may be learned by heart. It costs what every sampler
        costs: an epoch has as many steps as all sources have batches.
    """

    ranges: ClassVar[Ranges | None] = {}

    def shares(self, n_batches: Mapping[str, int], epoch: int) -> dict[str, float]:
        """Share of the steps of each source."""
        return dict.fromkeys(n_batches, 1 / len(n_batches))
