"""UPGrad: unconflicting projection of gradients."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, preferences
from polytask.balancing.solvers.cone import project_all
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.balancing.solvers.simplex import shares
from polytask.shapes import Float, Tensor

__all__ = ["UPGrad"]


class UPGrad(Balancer):
    r"""Project each task's gradient on the cone of directions that hurt no task, and average.

    .. math:: d = \sum_i u_i \, \pi_J(g_i), \qquad \pi_J(g) = \arg\min_{J y \ge 0} \lVert y - g \rVert

    Args:
        preference: :math:`u`, of which only the ratios matter (it is scaled to sum one).

    Raises:
        RecipeError: When bound to tasks that the preference does not fit.

    Example:
        >>> balancer = UPGrad()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[1.0, -0.5], [-0.5, 1.0]]))
        tensor([0.7500, 0.7500], dtype=torch.float64)

    Note:
        All projections are solved at once and exactly, without the ridge that the authors' package adds to the Gramian;
        which tasks bind is remembered for the next step and makes it faster. Absent tasks take no part. Cost:
        one gradient a task.

    References:
        Quinton, Rey (2024). Jacobian descent for multi-objective optimization. arXiv:2406.16232 (section 3.1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single", "conflict_free"})
    chosen: Tensor
    active: Tensor
    warm: Tensor

    def __init__(self, preference: PerTask = None):
        super().__init__()
        self.preference = preference

    def reset(self, n_tasks: int) -> None:
        """Look the preference up; nothing is known about which tasks bind."""
        self.register_buffer("chosen", preferences("UPGrad", self.preference, self.tasks))
        self.register_buffer("active", torch.zeros(n_tasks, n_tasks, dtype=torch.bool))
        self.register_buffer("warm", torch.zeros(n_tasks, dtype=torch.bool))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The average of the weights that make the projections."""
        at = (signals.index[:, None], signals.index)
        warm = self.active[at].cpu().numpy() if bool(self.warm[signals.index].all()) else None
        found = project_all(gramian_of(signals), warm)
        if found.reason:
            self.note_fallback(found.reason)
        self.active[at] = torch.from_numpy(found.active).to(self.active.device)
        self.warm[signals.index] = True
        return tensor_of(shares(self.chosen[signals.index].cpu().numpy()) @ found.weights)
