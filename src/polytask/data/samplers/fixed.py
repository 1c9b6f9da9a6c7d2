"""Shares that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polytask.data.sampler import Sampler
from polytask.errors import RecipeError, UnknownNameError

__all__ = ["Fixed"]


@dataclass(frozen=True)
class Fixed(Sampler):
    r"""Draws each source with a given weight, whatever its size.

    .. math:: p_s = w_s / \sum_r w_r

    Args:
        weights: By source; a source without one has weight 1.

    Raises:
        RecipeError: If a weight is negative or not finite, all are 0, or one is for a source that there is not.

    Example:
        >>> Fixed({"digits": 3}).shares({"digits": 5, "letters": 80}, epoch=0)
        {'digits': 0.75, 'letters': 0.25}

    Note:
        A weight of 0 leaves the source out of the training. The weights do not follow the sizes: a small source with a
        large weight is repeated often. It costs what every sampler costs: an epoch has as many steps as all sources
        have batches.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (np.isfinite(weight) and weight >= 0):
                raise RecipeError(f"The sampling weight of {name!r} needs to be finite and at least 0, got {weight}.")

    def shares(self, n_batches: Mapping[str, int], epoch: int) -> dict[str, float]:
        """Share of the steps of each source."""
        for name in self.weights:
            if name not in n_batches:
                raise UnknownNameError("source", name, n_batches)
        weights = {name: float(self.weights.get(name, 1.0)) for name in n_batches}
        total = sum(weights.values())
        if total == 0:
            raise RecipeError("The sampling weights of all sources are 0; one at least needs to be positive.")
        return {name: weight / total for name, weight in weights.items()}
