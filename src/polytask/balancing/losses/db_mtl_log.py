"""The logarithm part of DB-MTL alone."""

from __future__ import annotations

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.losses._positive import positive
from polytask.balancing.options import at_least
from polytask.shapes import Float, Tensor

__all__ = ["DBMTLLog"]


class DBMTLLog(Balancer):
    r"""Balance the scales of the losses by their logarithm, the first half of DB-MTL.

    .. math:: w_i = 1 / L_i \quad\text{(the gradient of } \log L_i \text{)}

    Args:
        smallest: Losses below this count as this; it happens with losses that reach zero or are negative, for
            which the method is no good choice, and is counted as a fallback.

    Raises:
        RecipeError: If ``smallest`` is not positive.

    Example:
        >>> DBMTLLog()(Signals.of([0.5, 2.0]))
        tensor([2.0000, 0.5000], dtype=torch.float64)

    Note:
        The same weights as :class:`~polytask.balancing.ScaleInvariant`; it has its own name because the paper's
        ablation has. The whole method is :class:`~polytask.balancing.DBMTL`. The paper takes log(L + 1e-8); here
        smaller losses count as 1e-8, and that is counted. Cost: one backward.

    References:
        Lin et al. (2023). Dual-balancing for multi-task learning. arXiv:2308.12029 (section 3.1).
    """

    keeps: frozenset[str] = frozenset({"permutation", "scale"})

    def __init__(self, smallest: float = 1e-8):
        super().__init__()
        self.smallest = at_least("DBMTLLog", "smallest", smallest, 0.0, above=True)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The reciprocal losses."""
        return 1.0 / positive(self, signals.losses, self.smallest)
