"""IMTL-G: impartial gradient balance."""

from __future__ import annotations

import numpy as np

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.solvers.equiangular import equiangular
from polytask.balancing.solvers.gramian import Floats, ScaledGramian, gramian_of, tensor_of
from polytask.shapes import Float, Tensor

__all__ = ["IMTLG"]


class IMTLG(Balancer):
    r"""Follow the direction on which all gradients have projections of equal length.

    .. math:: d = \sum_i w_i g_i, \qquad \frac{g_i^\top d}{\lVert g_i \rVert} = \text{const}, \qquad \Bigl\lvert
       \sum_i w_i \Bigr\rvert = 1

    Example:
        >>> IMTLG()(Signals.of([1.0, 1.0], gramian=[[4.0, 0.0], [0.0, 1.0]]))
        tensor([0.3333, 0.6667], dtype=torch.float64)

    Note:
        On the cosines this is one linear system, equal to the paper's closed form for independent gradients and its
        least-norm solution for dependent ones. The paper scales the weights to the sum one; where that sum is
        negative its direction goes up every loss, and here it is turned round. Single weights may be negative. When
        they cannot be scaled to add up to one (only where the gradients cancel), they are equal, and a fallback is
        counted. Tasks with a zero gradient get zero. Cost: one gradient a task.

    References:
        Liu et al. (2021). Towards impartial multi-task learning. ICLR (section 3.1, equation 6).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single", "scale"})

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights of the impartial direction."""
        scaled = ScaledGramian(gramian_of(signals))
        weights = _impartial(scaled)
        if weights is None:
            self.note_fallback(
                "IMTL-G: the gradients cancel, or the impartial weights add up to zero; equal weights were used"
            )
            weights = np.full(len(scaled.gramian), 1.0 / len(scaled.gramian))
        return tensor_of(weights)


def _impartial(scaled: ScaledGramian) -> Floats | None:
    if not scaled.present.any():
        return np.full(len(scaled.gramian), 1.0 / len(scaled.gramian))
    unit = equiangular(scaled, np.ones(len(scaled.gramian)))
    # Weights of rounding size: the unit gradients cancel, no direction projects alike on them all.
    if float(np.abs(unit).max()) <= 1e-10:
        return None
    smallest = scaled.norms[scaled.present].min()
    weights = np.divide(unit * smallest, scaled.norms, out=np.zeros_like(unit), where=scaled.present)
    total = float(weights.sum())
    return weights / abs(total) if abs(total) > 1e-12 * float(np.abs(weights).sum()) else None
