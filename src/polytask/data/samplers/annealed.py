"""From proportional towards uniform over the epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polytask.data.sampler import Sampler, power_shares
from polytask.errors import RecipeError

__all__ = ["Annealed"]


@dataclass(frozen=True)
class Annealed(Sampler):
    r"""Draws sources in proportion to their sizes at first, and more and more equally towards the end of training.

    .. math:: p_s \propto n_s^{\alpha}, \qquad \alpha = 1 - (1 - \alpha_{end}) \frac{e}{E - 1}

    with :math:`e` epochs done of :math:`E`; from epoch :math:`E` on, :math:`\alpha = \alpha_{end}`.

    Args:
        epochs: :math:`E`, the epochs of the whole training.
        end: :math:`\alpha_{end}`, in 0 to 1: the power in the last epoch; 0 is uniform.

    Raises:
        RecipeError: If there is no epoch, or the power is not in 0 to 1.

    Example:
        >>> annealed = Annealed(epochs=3, end=0.0)
        >>> sizes = {"digits": 90, "letters": 10}
        >>> [round(annealed.shares(sizes, epoch)["letters"], 6) for epoch in range(4)]
        [0.1, 0.25, 0.5, 0.5]

    Note:
        ``epochs`` is set apart from the training's own: give both the same number. A training that stops early ends
        before the power is at its last. Sizes are counted in batches. It costs what every sampler costs: an epoch has
        as many steps as all sources have batches.

    References:
        Stickland, Murray (2019), "BERT and PALs: projected attention layers for efficient adaptation in multi-task
        learning": annealed sampling, which ends at a power of 0.2.
    """

    epochs: int = 20
    end: float = 0.2

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise RecipeError(f"Annealed sampling needs at least 1 epoch, got {self.epochs}.")
        if not 0 <= self.end <= 1:
            raise RecipeError(f"The last power of annealed sampling needs to be in 0 to 1, got {self.end}.")

    def shares(self, n_batches: Mapping[str, int], epoch: int) -> dict[str, float]:
        """Share of the steps of each source."""
        done = min(epoch / (self.epochs - 1), 1.0) if self.epochs > 1 else 1.0
        return power_shares(n_batches, 1 - (1 - self.end) * done)
