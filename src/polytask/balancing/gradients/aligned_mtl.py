"""Aligned-MTL: independent component alignment."""

from __future__ import annotations

import numpy as np

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, preferences
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.balancing.solvers.simplex import shares
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["AlignedMTL"]

_SCALES = ("min", "median", "rmse")
_RANK = float(np.finfo(np.float32).eps)


class AlignedMTL(Balancer):
    r"""Replace the gradients by orthogonal ones of equal length that are as near as possible, and average those.

    .. math:: G = V \Lambda V^\top, \qquad w = \sqrt{\lambda_R} \; V \Lambda^{-1/2} V^\top r

    Args:
        preference: :math:`r`, of which only the ratios matter (it is scaled to sum one).
        scale: Which eigenvalue :math:`\lambda_R` gives the common length: ``min``, ``median`` or ``rmse`` (the mean).

    Raises:
        RecipeError: If an option is unknown or does not fit the tasks.

    Example:
        >>> balancer = AlignedMTL()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[4.0, 0.0], [0.0, 1.0]]))
        tensor([0.2500, 0.5000], dtype=torch.float64)

    Note:
        Eigenvalues below T times the precision of float32 relative to the largest count as zero, as in the
        authors' code: the gradients are known no better. A zero Gramian gives the preference itself. The paper's
        method is ``min``; the authors' code knows the others. Cost: one gradient a task.

    References:
        Senushkin et al. (2023). Independent component alignment for multi-task learning. CVPR (algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    chosen: Tensor

    def __init__(self, preference: PerTask = None, scale: str = "min"):
        super().__init__()
        if scale not in _SCALES:
            raise RecipeError(f"AlignedMTL knows the scales {', '.join(_SCALES)}; got {scale!r}.")
        self.preference = preference
        self.scale = scale

    def reset(self, n_tasks: int) -> None:
        """Look the preference up."""
        self.register_buffer("chosen", preferences("AlignedMTL", self.preference, self.tasks))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The preference through the balance transformation."""
        share = shares(self.chosen[signals.index].cpu().numpy())
        gramian = gramian_of(signals)
        values, vectors = np.linalg.eigh(gramian)
        kept = values > _RANK * len(gramian) * max(float(values[-1]), 0.0)
        if not kept.any():
            return tensor_of(share)
        values, vectors = values[kept], vectors[:, kept]
        middle = values[(len(values) - 1) // 2]
        common = {"min": values[0], "median": middle, "rmse": values.mean()}[self.scale]
        return tensor_of(vectors @ (np.sqrt(common / values) * (vectors.T @ share)))
