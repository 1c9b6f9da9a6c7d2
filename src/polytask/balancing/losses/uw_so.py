"""UW-SO: the best uncertainty weights in closed form, softened."""

from __future__ import annotations

from typing import ClassVar

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.losses._positive import positive
from polytask.balancing.options import at_least
from polytask.ranges import Range, Ranges
from polytask.shapes import Float, Tensor

__all__ = ["UWSO"]


class UWSO(Balancer):
    r"""Give more weight to tasks whose loss is small, as uncertainty weighting would once it has settled.

    .. math:: w_i = \mathrm{softmax}_i\bigl(1 / (\tau L_i)\bigr)

    The scale :math:`\sigma_i` that minimises :math:`L_i / \sigma_i + \log \sigma_i` is :math:`L_i`, so that the best
    weight :math:`1 / \sigma_i` needs no learning; the softmax keeps a loss near zero from taking it all at once.

    Args:
        temperature: :math:`\tau`; the larger, the more even.
        smallest: Losses below this count as this, which is counted as a fallback.

    Raises:
        RecipeError: If an option is not positive.

    Example:
        >>> UWSO()(Signals.of([1.0, 0.5]))
        tensor([0.2689, 0.7311], dtype=torch.float64)
        >>> UWSO(temperature=100.0)(Signals.of([1.0, 0.5]))
        tensor([0.4975, 0.5025], dtype=torch.float64)

    Note:
        The shares sum to one, as in the paper: beside plain summation of T tasks the step is T times smaller. The
        paper tunes the temperature for each data set; the default here is for losses that begin near one, as those of
        a recipe do. At a temperature of one a task that is learned to a tenth of its loss has nearly all the weight,
        so that this is not for tasks that end at very different losses. Cost: one backward.

    References:
        Kirchdorfer et al. (2024). Analytical uncertainty-based loss weighting in multi-task learning. GCPR
        (section 3, UW-SO).
    """

    keeps: frozenset[str] = frozenset({"permutation", "single"})
    sums_to_one: bool = True
    ranges: ClassVar[Ranges | None] = {"temperature": Range(0.5, 50.0, log=True)}

    def __init__(self, temperature: float = 1.0, smallest: float = 1e-12):
        super().__init__()
        self.temperature = at_least("UWSO", "temperature", temperature, 0.0, above=True)
        self.smallest = at_least("UWSO", "smallest", smallest, 0.0, above=True)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Shares by the inverse losses."""
        losses = positive(self, signals.losses, self.smallest)
        return torch.softmax(1.0 / (self.temperature * losses), dim=0)
