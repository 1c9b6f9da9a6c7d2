"""The order of an epoch's batches: which source next, and which of its rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch

from polytask.ranges import Ranges
from polytask.shapes import Int, Tensor

__all__ = ["Sampler", "apportion"]


class Sampler(ABC):
    """A mixing policy: how often each source is drawn in an epoch, and in which order.

    A subclass gives the :meth:`shares` of the sources; their steps in the epoch follow them as closely as whole
    numbers allow (what is left over is drawn at random), and the order is shuffled. A policy with an order of its own
    overrides :meth:`order`. It keeps no state: what it gives depends on its options and arguments only.

    Class attributes:
        ranges: What ``polytask study --search`` tries of its options; it does not try the method at all if ``None``.
    """

    ranges: ClassVar[Ranges | None] = None

    @abstractmethod
    def shares(self, n_batches: Mapping[str, int], epoch: int) -> dict[str, float]:
        """Share of the steps of each source; they sum to 1.

        Args:
            n_batches: Batches in one pass over each source.
            epoch: Number of epochs done before.
        """

    def order(
        self, n_batches: Mapping[str, int], n_steps: int, epoch: int, generator: torch.Generator
    ) -> Int[Tensor, " steps"]:
        """Position of the source of each step.

        Args:
            n_batches: Batches in one pass over each source.
            n_steps: Steps of the epoch.
            epoch: Number of epochs done before.
            generator: The only source of chance.
        """
        shares = self.shares(n_batches, epoch)
        counts = apportion([shares[name] for name in n_batches], n_steps, generator)
        steps = torch.repeat_interleave(torch.arange(len(counts)), counts)
        return steps[torch.randperm(n_steps, generator=generator)]


def apportion(shares: list[float], total: int, generator: torch.Generator) -> Int[Tensor, " S"]:
    """Whole numbers with the given sum whose expectation is ``share * total``, each within one of it.

    Systematic sampling: one uniform number shifts a comb over the cumulated shares.

    Example:
        >>> apportion([0.5, 0.25, 0.25], 8, torch.Generator().manual_seed(0)).tolist()
        [4, 2, 2]
    """
    expected = torch.tensor(shares, dtype=torch.float64) * total
    # Without the rounding, a share of exactly two steps could be 1.9999 steps and come out as one.
    edges = torch.cumsum(expected, 0).mul(2**20).round().div(2**20)
    edges[-1] = total
    shift = torch.rand((), generator=generator, dtype=torch.float64)
    upper = torch.floor(edges + shift)
    upper[-1] = total
    return torch.diff(upper, prepend=torch.zeros(1, dtype=torch.float64)).long()


def power_shares(n_batches: Mapping[str, int], power: float) -> dict[str, float]:
    """Shares in proportion to a power of the sizes.

    Example:
        >>> power_shares({"a": 16, "b": 1}, 0.5)
        {'a': 0.8, 'b': 0.2}
    """
    largest = max(n_batches.values())
    powers = {name: (count / largest) ** power for name, count in n_batches.items()}
    total = sum(powers.values())
    return {name: value / total for name, value in powers.items()}
