"""Geometric mean of the losses."""

from __future__ import annotations

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.losses._positive import positive
from polytask.balancing.options import at_least
from polytask.shapes import Float, Tensor

__all__ = ["GLS"]


class GLS(Balancer):
    r"""Minimise the geometric mean of the losses, which no single large loss dominates.

    .. math:: \min \Bigl(\prod_i L_i\Bigr)^{1/T}, \qquad w_i = \frac{1}{T L_i} \Bigl(\prod_j L_j\Bigr)^{1/T}

    Args:
        smallest: Losses below this count as this, which is counted as a fallback.

    Raises:
        RecipeError: If ``smallest`` is not positive.

    Example:
        >>> GLS()(Signals.of([0.5, 2.0]))
        tensor([1.0000, 0.2500], dtype=torch.float64)

    Note:
        The product is taken over the tasks present in the batch, through logarithms, so that 100 tasks neither
        overflow nor vanish. Cost: one backward.

    References:
        Chennupati et al. (2019). MultiNet++: Multi-stream feature aggregation and geometric loss strategy for
        multi-task learning. CVPR workshops (equation 2).
    """

    keeps: frozenset[str] = frozenset({"permutation", "single", "scale"})

    def __init__(self, smallest: float = 1e-12):
        super().__init__()
        self.smallest = at_least("GLS", "smallest", smallest, 0.0, above=True)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The derivative of the geometric mean by each loss."""
        losses = positive(self, signals.losses, self.smallest)
        return losses.log().mean().exp() / (len(losses) * losses)
