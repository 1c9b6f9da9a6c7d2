"""DualProj: dual cone projection."""

from __future__ import annotations

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import PerTask, preferences
from polytask.balancing.solvers.cone import project_one
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.balancing.solvers.simplex import shares
from polytask.shapes import Float, Tensor

__all__ = ["DualProj"]


class DualProj(Balancer):
    r"""Project the average gradient on the cone of directions that hurt no task.

    .. math:: d = \arg\min_{J y \ge 0} \lVert y - J^\top u \rVert

    Args:
        preference: :math:`u`, of which only the ratios matter (it is scaled to sum one).

    Raises:
        RecipeError: When bound to tasks that the preference does not fit.

    Example:
        >>> balancer = DualProj()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[1.0, -2.0], [-2.0, 9.0]]))
        tensor([1.0000, 0.5000], dtype=torch.float64)

    Note:
        GEM projects the gradient of the newest task on the cone of the remembered ones; here the average gradient takes
        its place, as in the reference below. Exact, without a ridge. Cost: one gradient a task.

    References:
        Lopez-Paz, Ranzato (2017). Gradient episodic memory for continual learning. NeurIPS (equation 11).
        Quinton, Rey (2024). Jacobian descent for multi-objective optimization. arXiv:2406.16232 (appendix).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single", "conflict_free"})
    chosen: Tensor

    def __init__(self, preference: PerTask = None):
        super().__init__()
        self.preference = preference

    def reset(self, n_tasks: int) -> None:
        """Look the preference up."""
        self.register_buffer("chosen", preferences("DualProj", self.preference, self.tasks))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Weights of the projected average."""
        solution = project_one(gramian_of(signals), shares(self.chosen[signals.index].cpu().numpy()))
        if solution.reason:
            self.note_fallback(solution.reason)
        return tensor_of(solution.weights)
