"""Sources in proportion to their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from polytask.data.sampler import Sampler
from polytask.ranges import Ranges

__all__ = ["Proportional"]


@dataclass(frozen=True)
class Proportional(Sampler):
    r"""Draws each source in proportion to its number of batches, so that an epoch is one pass over every source.

    .. math:: p_s = n_s / \sum_r n_r

    Example:
        >>> Proportional().shares({"digits": 30, "letters": 10}, epoch=0)
        {'digits': 0.75, 'letters': 0.25}

    Note:
        The default. A small source beside a large one is rarely drawn; see ``temperature``. It costs what every sampler
        costs: an epoch has as many steps as all sources have batches.
    """

    ranges: ClassVar[Ranges | None] = {}

    def shares(self, n_batches: Mapping[str, int], epoch: int) -> dict[str, float]:
        """Share of the steps of each source."""
        total = sum(n_batches.values())
        return {name: count / total for name, count in n_batches.items()}
