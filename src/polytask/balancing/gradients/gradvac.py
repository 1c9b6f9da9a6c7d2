"""GradVac: gradient vaccine."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.draws import Draws
from polytask.balancing.options import within
from polytask.balancing.solvers.gramian import gramian_of, tensor_of
from polytask.balancing.solvers.surgery import orders, vaccinate
from polytask.shapes import Float, Tensor

__all__ = ["GradVac"]


class GradVac(Balancer):
    r"""Turn each gradient towards the others until they are as similar as they usually are.

    With the cosine :math:`\phi` of :math:`g_i` and :math:`g_j` below its running average :math:`\hat\phi_{ij}`,

    .. math:: g_i \leftarrow g_i + \frac{\lVert g_i \rVert \bigl(\hat\phi_{ij} \sqrt{1 - \phi^2} -
       \phi \sqrt{1 - \hat\phi_{ij}^2}\bigr)}{\lVert g_j \rVert \sqrt{1 - \hat\phi_{ij}^2}} \, g_j,
       \qquad \hat\phi_{ij} \leftarrow (1 - \beta) \hat\phi_{ij} + \beta \phi

    Args:
        beta: :math:`\beta`.
        seed: The orders depend on it and on the number of steps alone.

    Raises:
        RecipeError: If ``beta`` is not between 0 and 1.

    Example:
        >>> balancer = GradVac()
        >>> balancer.bind(["a", "b"])
        >>> balancer(Signals.of([1.0, 1.0], gramian=[[1.0, -1.0], [-1.0, 4.0]]))
        tensor([2.0000, 1.2500], dtype=torch.float64)

    Note:
        Exact on the Gramian. The whole shared part is one group; the paper also groups by layer. The average follows
        the cosine of the gradient as already changed, as in the published implementations. Averages start at zero, so
        the first step is PCGrad's. Cost: one gradient a task.

    References:
        Wang et al. (2021). Gradient vaccine: Investigating and improving multi-task optimization in massively
        multilingual models. ICLR (equations 2 and 3, algorithm 1).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"single"})
    usual: Tensor

    def __init__(self, beta: float = 0.01, seed: int = 0):
        super().__init__()
        self.beta = within("GradVac", "beta", beta, 0.0, 1.0)
        self.draws = Draws(seed)

    def reset(self, n_tasks: int) -> None:
        """Usual cosines, at first zero."""
        self.register_buffer("usual", torch.zeros(n_tasks, n_tasks, dtype=torch.float64))

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """Column sums of the weights that make the turned gradients; updates the usual cosines."""
        gramian = gramian_of(signals)
        at = (signals.index[:, None], signals.index)
        usual = self.usual[at].cpu().numpy()
        mixture = vaccinate(gramian, orders(self.draws.numpy(), len(gramian)), usual, self.beta)
        self.usual[at] = tensor_of(usual).to(self.usual)
        return tensor_of(mixture.sum(axis=0))
