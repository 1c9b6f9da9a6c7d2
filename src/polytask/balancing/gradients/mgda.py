"""MGDA: multiple-gradient descent algorithm."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, preferences
from polytask.balancing.resilient import PerTaskResilient
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.balancing.solvers.simplex import min_norm
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["MGDA"]

_LEAST = 1e-6
_NORMALISERS = ("none", "norm", "loss", "loss+norm")


class MGDA(Balancer):
    r"""Follow the shortest vector in the convex hull of the gradients, along which every loss falls.

    .. math:: \min_{\alpha \ge 0,\ 1^\top \alpha = 1} \Bigl\lVert \sum_i \alpha_i \frac{r_i}{n_i} g_i \Bigr\rVert^2,
       \qquad w_i = r_i \alpha_i

    Args:
        preference: :math:`r`, of which only the ratios matter: the method runs on the losses :math:`r_i L_i`. It
            bends the path towards the preferred tasks; every Pareto-stationary point stays a resting point. For a
            chosen point of the front use :class:`~polytask.balancing.STCH`.
        normalise: :math:`n`: ``none`` (1), ``norm`` (the gradient's norm), ``loss`` or ``loss+norm`` (their product).

    Raises:
        RecipeError: If an option is unknown or does not fit the tasks.

    Example:
        >>> balancer = MGDA()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[1.0, 0.0], [0.0, 3.0]]))
        tensor([0.7500, 0.2500], dtype=torch.float64)

    Note:
        The solver is exact (active set, see :func:`~polytask.balancing.solvers.simplex.min_norm`), not Frank-Wolfe as
        in Sener and Koltun's code. Like there, a normaliser enters the search for :math:`\alpha` alone, so that a loss
        may rise with it. They weigh the heads by :math:`\alpha` too; here a task's own parameters see its loss with
        weight one. A task with a zero gradient takes the whole weight, because the point is Pareto stationary then.
        Cost: one gradient a task. It is slow where one gradient is much shorter than the others.

    References:
        Desideri (2012). Multiple-gradient descent algorithm (MGDA) for multiobjective optimization. C. R. Math.
        Sener, Koltun (2018). Multi-task learning as multi-objective optimization. NeurIPS (equation 3, algorithm 2).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single", "conflict_free", "duplicate"})
    sums_to_one: bool = True
    scale: Tensor

    def __init__(self, preference: PerTask = None, normalise: str = "none"):
        super().__init__()
        if normalise not in _NORMALISERS:
            raise RecipeError(f"MGDA knows the normalisers {', '.join(_NORMALISERS)}; got {normalise!r}.")
        self.preference = preference
        self.normalise = normalise
        if normalise != "none":  # the search is free of conflict then, and not the gradients that it weighs
            self.keeps = self.keeps - {"conflict_free"}

    def reset(self, n_tasks: int) -> None:
        """Look the preference up; step sizes of the matrix-free mode."""
        self.register_buffer("scale", preferences("MGDA", self.preference, self.tasks))
        self.steps = PerTaskResilient(n_tasks)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The min-norm weights times the preference."""
        gramian = gramian_of(signals)
        preference = self.scale[signals.index]
        factor = preference.clone()
        if "norm" in self.normalise:
            norms = torch.from_numpy(gramian.diagonal().copy()).sqrt()
            factor /= torch.where(norms > 0.0, norms, 1.0)
        if "loss" in self.normalise:
            factor /= signals.losses.abs().clamp_min(1e-12)
        if self.preference is not None or self.normalise != "none":
            gramian = gramian * torch.outer(factor, factor).numpy()
        solution = min_norm(gramian)
        if solution.reason:
            self.note_fallback(solution.reason)
        return preference * tensor_of(solution.weights)

    def iterate(
        self, signals: Signals, weights: Float[Tensor, " T"], product: Float[Tensor, " T"]
    ) -> Float[Tensor, " T"]:
        """One resilient step on the simplex, on the unscaled losses."""
        product = product.to(weights)
        size = product.abs().max()
        if not bool(size > 0.0):
            return weights
        slope = (product - weights @ product / weights.sum()) / size
        # a weight of exactly zero could never come back
        share = self.steps.step(weights.clamp_min(_LEAST), slope, signals.index)
        return share / share.sum()
