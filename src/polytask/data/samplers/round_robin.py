"""One source after the other, in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from polytask.data.sampler import Sampler
from polytask.shapes import Int, Tensor

__all__ = ["RoundRobin"]


@dataclass(frozen=True)
class RoundRobin(Sampler):
    r"""Draws the sources in turn, in the order in which they were given: alternating batches, nothing at random.

    Step :math:`k` of an epoch, counted from 0, draws from source number

    .. math:: s_k = k \bmod S .

    Example:
        >>> order = RoundRobin().order({"a": 1, "b": 9}, 5, 0, torch.Generator())
        >>> order.tolist()
        [0, 1, 0, 1, 0]

    Note:
        The shares are those of ``uniform``; the order has no chance in it. An epoch starts with the first source again.
        It costs what every sampler costs: an epoch has as many steps as all sources have batches.
    """

    def shares(self, n_batches: Mapping[str, int], epoch: int) -> dict[str, float]:
        """Share of the steps of each source."""
        return dict.fromkeys(n_batches, 1 / len(n_batches))

    def order(
        self, n_batches: Mapping[str, int], n_steps: int, epoch: int, generator: torch.Generator
    ) -> Int[Tensor, " steps"]:
        """Position of the source of each step."""
        return torch.arange(n_steps) % len(n_batches)
