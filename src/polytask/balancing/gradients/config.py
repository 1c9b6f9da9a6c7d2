"""ConFIG: conflict-free inverse gradients."""

from __future__ import annotations

import numpy as np

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, preferences
from polytask.balancing.solvers.equiangular import equiangular
from polytask.balancing.solvers.gramian import ScaledGramian, gramian_of, tensor_of
from polytask.balancing.solvers.simplex import shares
from polytask.shapes import Float, Tensor

__all__ = ["ConFIG"]


class ConFIG(Balancer):
    r"""Follow the direction of equal cosine with every gradient, as long as the gradients project on it.

    .. math:: u = \frac{\hat J^{+} r}{\lVert \hat J^{+} r \rVert}, \qquad d = \Bigl(\sum_i g_i^\top u\Bigr) u

    with :math:`\hat J` the unit gradients and :math:`\hat J^{+}` its pseudo-inverse.

    Args:
        preference: :math:`r`, the wanted cosines, of which only the ratios matter.

    Raises:
        RecipeError: When bound to tasks that the preference does not fit.

    Example:
        >>> balancer = ConFIG()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[4.0, 0.0], [0.0, 1.0]]))
        tensor([0.7500, 1.5000], dtype=torch.float64)

    Note:
        :math:`\hat J^{+} r = \hat J^\top C^{+} r` with the cosines :math:`C`, so the Gramian is enough; the authors'
        code takes the pseudo-inverse of the whole Jacobian. Free of conflict where the gradients are linearly
        independent. Tasks with a zero gradient are left out; where the direction is zero, so are the weights.
        Cost: one gradient a task.

    References:
        Liu, Chu, Thuerey (2025). ConFIG: Towards conflict-free training of physics informed neural networks. ICLR
        (equations 2 and 3).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single", "scale"})
    chosen: Tensor

    def __init__(self, preference: PerTask = None):
        super().__init__()
        self.preference = preference

    def reset(self, n_tasks: int) -> None:
        """Look the preference up."""
        self.register_buffer("chosen", preferences("ConFIG", self.preference, self.tasks))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights of the equiangular direction at the length of the projections."""
        scaled = ScaledGramian(gramian_of(signals))
        unit = equiangular(scaled, shares(self.chosen[signals.index].cpu().numpy()))
        products = scaled.cosines @ unit
        square = float(unit @ products)
        if square <= 0.0:
            return tensor_of(np.zeros_like(unit))
        largest = scaled.norms.max()
        length = float((scaled.norms / largest) @ products)
        inverse = np.divide(largest, scaled.norms, out=np.zeros_like(unit), where=scaled.present)
        return tensor_of(unit * inverse * (length / square))
