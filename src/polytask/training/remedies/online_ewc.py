"""Online elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.shapes import Tensor
from polytask.training.remedies._fisher import anchors, fisher, quadratic, reached
from polytask.training.remedy import Remedy, Scene

__all__ = ["OnlineEWC"]


@dataclass
class OnlineEWC(Remedy):
    r"""Elastic weight consolidation with one penalty for all earlier stages: memory does not grow with them.

    After stage :math:`k`, with the diagonal Fisher information :math:`F^k` of its tasks,

    .. math:: \tilde F^k = \gamma \tilde F^{k-1} + F^k, \qquad
        \frac{\lambda}{2} \sum_i \tilde F^k_i \,(\theta_i - \theta^k_i)^2 .

    Args:
        strength: :math:`\lambda`.
        decay: :math:`\gamma` in [0, 1]: how much of earlier stages' importance is kept; 0 keeps that of the last only.
        rows: Most rows of each source from which the Fisher information is estimated.

    Raises:
        RecipeError: If the decay is not in [0, 1], there is no row, or the strength is negative.

    Example:
        >>> OnlineEWC(decay=0.9).decay
        0.9

    Note:
        The paper, and implementations after it, have :math:`\gamma \tilde F^k` in the penalty too; for
        :math:`\gamma > 0` this is a strength of :math:`\lambda \gamma` here, where :math:`\gamma = 0` still keeps the
        last stage. As in ``ewc``, the Fisher information is the empirical one. All is drawn to the last stage's
        parameters, which equals ``ewc`` after two stages, and afterwards only as far as earlier stages' parameters were
        kept. It keeps an importance and an anchor for each parameter that it holds, and passes up to ``rows`` rows of
        each source one by one at the end of each stage; a step has no further pass.

    References:
        Schwarz et al., "Progress & Compress: A scalable framework for continual learning", ICML 2018, section 4,
        equation 9; Huszar, "Note on the quadratic penalties in elastic weight consolidation", PNAS 115, 2018.
    """

    strength: float = 400.0
    decay: float = 1.0
    rows: int = 512
    importance: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    centre: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay <= 1:
            raise RecipeError(f"{self.who} needs a decay in [0, 1], got {self.decay!r}.")
        if self.rows < 1:
            raise RecipeError(f"{self.who} needs at least 1 row to estimate from, got {self.rows}.")

    def term(self, batches: Sequence[Batch], step: int) -> Tensor | None:
        """The one penalty."""
        if not self.importance:
            return None
        term = quadratic(dict(self.here.model.named_parameters()), self.importance, self.centre)
        return None if term is None else self.strength / 2 * term

    def afterwards(self, scene: Scene) -> None:
        """Estimate what mattered to the old tasks, from their rows."""
        self.begin(scene)
        self.end()

    def end(self) -> None:
        """Add what mattered in the stage."""
        if not self.strength:
            return
        parameters = reached(self.here)
        found = fisher(self.here, parameters, self.rows)
        faded = {name: self.decay * value for name, value in self.importance.items()}
        self.importance = {**faded, **{name: value + faded.get(name, 0.0) for name, value in found.items()}}
        self.centre = {**self.centre, **anchors(parameters)}

    def state_dict(self) -> dict[str, Any]:
        """Importance and anchor."""
        return {"importance": self.importance, "centre": self.centre}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.importance, self.centre = dict(state["importance"]), dict(state["centre"])
