"""Sum of logarithms: no task counts more because its loss has larger numbers."""

from __future__ import annotations

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.losses._positive import positive
from polytask.balancing.options import at_least
from polytask.shapes import Float, Tensor

__all__ = ["ScaleInvariant"]


class ScaleInvariant(Balancer):
    r"""Add the logarithms of the losses up, so that the units of a loss do not matter.

    .. math:: \min \sum_i \log L_i, \qquad w_i = 1 / L_i

    Args:
        smallest: Losses below this count as this; it happens with losses that reach zero or are negative, for
            which the method is no good choice, and is counted as a fallback.

    Raises:
        RecipeError: If ``smallest`` is not positive.

    Example:
        >>> ScaleInvariant()(Signals.of([0.5, 2.0]))
        tensor([2.0000, 0.5000], dtype=torch.float64)

    Note:
        Cost: one backward. The learning rate changes its meaning: the gradient of one task alone is that of its
        log loss, larger the smaller the loss.

    References:
        Navon et al. (2022). Multi-task learning as a bargaining game. ICML (baseline "scale-invariant", section 6).
    """

    keeps: frozenset[str] = frozenset({"permutation", "scale"})

    def __init__(self, smallest: float = 1e-8):
        super().__init__()
        self.smallest = at_least("ScaleInvariant", "smallest", smallest, 0.0, above=True)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The reciprocal losses."""
        return 1.0 / positive(self, signals.losses, self.smallest)
