"""A main task, and helpers that count only while they agree with it."""

from __future__ import annotations

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.solvers.gramian import ScaledGramian, gramian_of, tensor_of
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["CosineGate"]


class CosineGate(Balancer):
    r"""Let a helper task's gradient in only where it points the same way as the main task's.

    .. math:: w_{\text{main}} = 1, \qquad w_i = [\cos(g_i, g_{\text{main}}) \ge 0]
       \quad \text{or} \quad w_i = \max(0, \cos(g_i, g_{\text{main}}))

    Args:
        main: Name of the main task, or its position.
        gate: ``sign`` (the first rule) or ``cosine`` (the second).

    Raises:
        RecipeError: If the gate or the main task is unknown.

    Example:
        >>> balancer = CosineGate(main="target", gate="cosine")
        >>> balancer.bind(["target", "helps", "hurts"])
        >>> balancer(Signals.of([1.0, 1.0, 1.0], rows=[[1.0, 0.0], [3.0, 4.0], [-1.0, 1.0]]))
        tensor([1.0000, 0.6000, 0.0000], dtype=torch.float64)

    Note:
        In a batch without the main task nothing says whether a helper helps: the shared part waits (weights zero) and
        the heads learn on. A zero gradient of the main task has cosine zero with all. Cost: one gradient a task.

    References:
        Du et al. (2018). Adapting auxiliary losses using gradient similarity. arXiv:1812.02224 (algorithms 1 and 2).
    """

    needs: frozenset[str] = frozenset({"losses", "gramian"})
    keeps: frozenset[str] = frozenset({"single"})

    def __init__(self, main: str | int = 0, gate: str = "sign"):
        super().__init__()
        if gate not in ("sign", "cosine"):
            raise RecipeError(f"CosineGate knows the gates 'sign' and 'cosine', got {gate!r}.")
        self.main = main
        self.gate = gate

    def reset(self, n_tasks: int) -> None:
        """Check that there is such a main task."""
        self._position()

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """One for the main task, the gate for the helpers."""
        found = torch.nonzero(signals.index.cpu() == self._position()).flatten()
        if len(found) == 0:
            return torch.zeros_like(signals.losses)
        main = int(found[0])
        cosines = tensor_of(ScaledGramian(gramian_of(signals)).cosines[main])
        weights = (cosines >= 0.0).to(torch.float64) if self.gate == "sign" else cosines.clamp_min(0.0)
        weights[main] = 1.0
        return weights

    def _position(self) -> int:
        known = range(len(self.tasks)) if isinstance(self.main, int) else self.tasks
        if self.main not in known:
            raise RecipeError(
                f"CosineGate has no task {self.main!r} to be the main one. Tasks: {', '.join(self.tasks)}."
            )
        return self.main if isinstance(self.main, int) else self.tasks.index(self.main)
