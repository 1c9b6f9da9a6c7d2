"""Auto-Lambda: weights learned from validation data."""

from __future__ import annotations

import torch

from polytask.balancing.adam import PerTaskAdam
from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import at_least, within
from polytask.shapes import Float, Tensor

__all__ = ["AutoLambda"]


class AutoLambda(Balancer):
    r"""Learn the weights whose training step lowers the validation loss of the tasks you care about.

    .. math:: \min_\lambda L^{\mathrm{val}}\bigl(\theta - \alpha \nabla_\theta \sum_i \lambda_i L_i(\theta)\bigr),
       \qquad \frac{\partial}{\partial \lambda_i} = -\alpha \, \nabla L_i(\theta)^\top \nabla
       L^{\mathrm{val}}(\theta'), \qquad w = \lambda

    one Adam step on :math:`\lambda` before each training step. The products are the signal ``validation``. The engine
    measures them from ``validation=``, a validation loss, at the parameters as they are, which is the look-ahead for
    small :math:`\alpha`; :func:`~polytask.balancing.validation.validation_products` measures them after it.

    Args:
        lr: Learning rate of the weights.
        start: First value of every weight.
        step: :math:`\alpha`, the learning rate of the model at the look-ahead.

    Raises:
        RecipeError: If an option is out of its range.

    Example:
        >>> balancer = AutoLambda(lr=0.01)
        >>> balancer.bind(["helps", "hurts"])
        >>> balancer(Signals.of([1.0, 1.0], validation=[0.5, -0.5]))
        tensor([0.1100, 0.0900], dtype=torch.float64)

    Note:
        Which tasks matter is decided by what the validation loss sums: all of them, or the primary ones. Weights are
        not bounded below, as in the authors' code; a negative one unlearns a task. The authors step the look-ahead
        with the optimiser's momentum, here it is plain gradient descent.
        Cost: through the engine one gradient a task and one validation pass. With finite differences, whatever the
        number of tasks, one more training pass, one validation pass and two forwards a step, about 3.7 times plain
        summation, and one stored gradient.

    References:
        Liu, James, Davison, Johns (2022). Auto-Lambda: Disentangling dynamic task relationships. TMLR
        (equations 4 to 7).
    """

    needs: frozenset[str] = frozenset({"losses", "validation"})
    keeps: frozenset[str] = frozenset({"permutation"})
    factor: Tensor

    def __init__(self, lr: float = 1e-4, start: float = 0.1, step: float = 1e-3):
        super().__init__()
        self.lr = at_least("AutoLambda", "lr", lr, 0.0, above=True)
        self.start = within("AutoLambda", "start", start, -100.0, 100.0)
        self.step = at_least("AutoLambda", "step", step, 0.0, above=True)

    def reset(self, n_tasks: int) -> None:
        """Equal weights and the optimiser's moments."""
        self.register_buffer("factor", torch.full((n_tasks,), self.start, dtype=torch.float64))
        self.adam = PerTaskAdam(n_tasks, self.lr)

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The weights after their step."""
        self.adam.step(self.factor, -self.step * signals.require("validation", "AutoLambda"), signals.index)
        return self.factor[signals.index]

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """The same weights: they weigh whole losses."""
        return weights
