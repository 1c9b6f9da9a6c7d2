"""A limit on the length of the combined gradient of any method."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.balancing.balancer import Balancer, Signals
from polytask.errors import RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["Clipped"]


class Clipped(Balancer):
    r"""Shrink a method's weights when its combined gradient is longer than a limit; the direction stays.

    .. math:: w \leftarrow w \cdot \min\Bigl(1, \frac{c}{\sqrt{w^\top G w}}\Bigr)

    Args:
        balancer: The method whose gradient is limited.
        max_norm: The limit ``c``.

    Raises:
        RecipeError: If the limit is not positive, or the method's gradient is no weighted sum.

    Example:
        >>> from polytask.balancing import Equal
        >>> clipped = Clipped(Equal(), max_norm=1.0)
        >>> clipped.bind(["a", "b"])
        >>> clipped(Signals.of([1.0, 1.0], gramian=[[9.0, 0.0], [0.0, 16.0]])).tolist()
        [0.2, 0.2]

    Note:
        The length comes from the Gramian, so a method that sees losses only pays for one here. Only the shared
        parameters are limited, unlike with a clip over the whole model.

    References:
        Navon et al. (2022). Multi-task learning as a bargaining game. ICML (the authors' code limits the length to 1).
    """

    def __init__(self, balancer: Balancer, max_norm: float = 1.0):
        super().__init__()
        if not max_norm > 0.0:
            raise RecipeError(f"Clipped needs max_norm above 0, got {max_norm}.")
        if not balancer.is_mixture:
            raise RecipeError(f"{type(balancer).__name__} has a gradient of its own, which its weights do not shrink.")
        self.balancer = balancer
        self.max_norm = max_norm
        self.needs = balancer.needs | {"gramian"}
        self.keeps = balancer.keeps - {"single"}  # which asks for the length of the gradient too
        self.tasks = balancer.tasks

    def bind(self, tasks: Sequence[str]) -> None:
        """Bind the method itself."""
        self.balancer.bind(tasks)
        super().bind(tasks)

    def needs_in(self, signals: Signals) -> frozenset[str]:
        """What the method itself needs, and the Gramian."""
        return self.balancer.needs_in(signals) | {"gramian"}

    def weigh(self, signals: Signals) -> Float[Tensor, " T"]:
        """The method's weights, shrunk if the gradient is too long."""
        weights: Tensor = self.balancer(signals)
        length = float((weights @ signals.require("gramian", "Clipped") @ weights).clamp_min(0.0).sqrt())
        return weights * (self.max_norm / length) if length > self.max_norm else weights

    def head_weights(self, signals: Signals, weights: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Those of the method itself."""
        return self.balancer.head_weights(signals, weights)

    def after_step(self, signals: Signals) -> None:
        """Passed on to the method."""
        self.balancer.after_step(signals)
