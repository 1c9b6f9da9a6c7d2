"""CR-MOGM: correlation-reduced multi-objective gradient manipulation."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.options import within
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["CRMOGM"]


class CRMOGM(Balancer):
    r"""Average the weights of another method over the steps, so that they depend less on the batch.

    .. math:: \lambda_k = \alpha \lambda_{k-1} + (1 - \alpha) \hat\lambda_k

    Args:
        balancer: The other method: an object, or a name, which is made with its defaults.
        momentum: :math:`\alpha`; 0 leaves the other method as it is.

    Raises:
        RecipeError: If the momentum is not between 0 and 1, or the other method has a direction of its own and no
            weights that could be averaged.

    Example:
        >>> balancer = CRMOGM("mgda", momentum=0.5)
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[1.0, 0.0], [0.0, 3.0]]))
        tensor([0.7500, 0.2500], dtype=torch.float64)
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[3.0, 0.0], [0.0, 1.0]]))
        tensor([0.5000, 0.5000], dtype=torch.float64)

    Note:
        The average starts at the first weights. An absent task keeps its average. The paper lets :math:`\alpha`
        grow towards one for its convergence result; here it is constant, as in its experiments. Cost: that of the other
        method.

    References:
        Zhou et al. (2022). On the convergence of stochastic multi-objective gradient manipulation and beyond. NeurIPS
        (algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"permutation", "single"})
    average: Tensor
    known: Tensor

    def __init__(self, balancer: Balancer | str = "mgda", momentum: float = 0.9):
        super().__init__()
        inner = _made(balancer)
        if not inner.is_mixture:
            raise RecipeError(f"CRMOGM averages weights, and {type(inner).__name__} has a direction of its own.")
        self.balancer = inner
        self.needs = inner.needs
        self.keeps = inner.keeps & {"permutation", "single"}
        self.momentum = within("CRMOGM", "momentum", momentum, 0.0, 1.0)

    def reset(self, n_tasks: int) -> None:
        """No averages known."""
        self.balancer.bind(self.tasks)
        self.register_buffer("average", torch.zeros(n_tasks, dtype=torch.float64))
        self.register_buffer("known", torch.zeros(n_tasks, dtype=torch.bool))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The averaged weights."""
        fresh = self.balancer(signals).to(self.average)
        at = signals.index
        weights = torch.where(self.known[at], torch.lerp(fresh, self.average[at], self.momentum), fresh)
        self.average[at] = weights
        self.known[at] = True
        return weights

    def needs_in(self, signals: Signals) -> frozenset[str]:
        """What the other method needs."""
        return self.balancer.needs_in(signals)

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Those of the other method."""
        return self.balancer.head_weights(signals, weights)

    def after_step(self, signals: Signals) -> None:
        """Passed on."""
        self.balancer.after_step(signals)


def _made(balancer: Balancer | str) -> Balancer:
    if isinstance(balancer, Balancer):
        return balancer
    if not isinstance(balancer, str):
        raise RecipeError(f"CRMOGM takes the other method by its name, such as mgda, or an object; got {balancer!r}.")
    from polytask.balancing import registry

    made: Balancer = registry.create(balancer)
    return made
