"""Elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polytask.data.batch import Batch
from polytask.errors import RecipeError
from polytask.shapes import Tensor
from polytask.training.remedies._fisher import anchors, fisher, quadratic, reached
from polytask.training.remedy import Remedy, Scene

__all__ = ["EWC"]


@dataclass
class EWC(Remedy):
    r"""Holds each parameter near what earlier stages left, the more it mattered to their tasks.

    With :math:`\theta^k` the parameters after stage :math:`k` and :math:`F^k` the diagonal of the Fisher information
    of its tasks there, later stages add

    .. math:: \frac{\lambda}{2} \sum_k \sum_i F^k_i \,(\theta_i - \theta^k_i)^2 .

    Args:
        strength: :math:`\lambda`. Losses a row are about 1, so hundreds are usual.
        rows: Most rows of each source from which the Fisher information is estimated.

    Raises:
        RecipeError: If there is no row, or the strength is negative.

    Example:
        >>> EWC(strength=400.0).rows
        512

    Note:
        The Fisher information is the empirical one, with the labels of the data, as in most implementations; the
        paper's expectation is over the model's own answers. For losses that are no likelihoods it is the mean squared
        gradient of a row, which measures the same. A term, an anchor and an importance for every stage: memory grows
        with them, ``online_ewc`` has one for all. An epoch of single rows at the end of each stage.

    References:
        Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 114, 2017, equation 3;
        Kunstner et al., "Limitations of the Empirical Fisher Approximation for Natural Gradient Descent", NeurIPS 2019.
    """

    strength: float = 400.0
    rows: int = 512
    kept: list[dict[str, dict[str, Tensor]]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < 1:
            raise RecipeError(f"{self.who} needs at least 1 row to estimate from, got {self.rows}.")

    def term(self, batches: Sequence[Batch], step: int) -> Tensor | None:
        """The penalty of all earlier stages."""
        parameters = dict(self.here.model.named_parameters()) if self.kept else {}
        total: Tensor | None = None
        for stage in self.kept:
            term = quadratic(parameters, stage["importance"], stage["centre"])
            if term is not None:
                total = term if total is None else total + term
        return None if total is None else self.strength / 2 * total

    def afterwards(self, scene: Scene) -> None:
        """Estimate what mattered to the old tasks, from their rows."""
        self.begin(scene)
        self.end()

    def end(self) -> None:
        """Estimate what mattered in the stage."""
        if self.strength:
            parameters = reached(self.here)
            importance = fisher(self.here, parameters, self.rows)
            self.kept.append({"importance": importance, "centre": anchors(parameters)})

    def state_dict(self) -> dict[str, Any]:
        """Importances and anchors of all stages so far."""
        return {"kept": list(self.kept)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.kept = list(state["kept"])
