"""Between proportional and uniform: sizes to a power."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from polytask.data.sampler import Sampler, power_shares
from polytask.errors import RecipeError
from polytask.ranges import Range, Ranges

__all__ = ["Temperature"]


@dataclass(frozen=True)
class Temperature(Sampler):
    r"""Draws each source in proportion to a root of its size, which lifts small sources above their share.

    .. math:: p_s \propto n_s^{1/\tau}

    Args:
        temperature: :math:`\tau \ge 1`: 1 is proportional to size, infinity is uniform.

    Raises:
        RecipeError: If the temperature is below 1.

    Example:
        >>> Temperature(2.0).shares({"digits": 90, "letters": 10}, epoch=0)
        {'digits': 0.75, 'letters': 0.25}

    Note:
        Sizes are counted in batches. At a high temperature a small source is repeated often and may be learned by
        heart. It costs what every sampler costs: an epoch has as many steps as all sources have batches.

    References:
        Arivazhagan et al. (2019), "Massively multilingual neural machine translation in the wild":
        temperature-based sampling, with a temperature of 5.
    """

    ranges: ClassVar[Ranges | None] = {"temperature": Range(1.0, 10.0)}

    temperature: float = 5.0

    def __post_init__(self) -> None:
        if not self.temperature >= 1:
            raise RecipeError(f"The sampling temperature needs to be at least 1, got {self.temperature}.")

    def shares(self, n_batches: Mapping[str, int], epoch: int) -> dict[str, float]:
        """Share of the steps of each source."""
        return power_shares(n_batches, 1 / self.temperature)
