"""Several quantiles of a number, an output each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import different, numbers
from polytask.tasks._scaling import Scaler
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.prediction import Column
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Quantile"]


@dataclass(kw_only=True)
class Quantile(Task):
    r"""Predicts within which bounds a number lies, and how sure that is: a delivery time, tomorrow's load.

    Output :math:`k` estimates the quantile of probability :math:`q_k`. With residual :math:`r_k = y - z_k` in
    standard units the loss of a label is the mean pinball loss

    .. math:: \frac{1}{K} \sum_k \max\left( q_k r_k,\; (q_k - 1)\, r_k \right).

    Args:
        quantiles: Probabilities strictly between 0 and 1, increasing.
        scaling: ``"standard"`` or ``"robust"``, see :class:`Regression`.
        transform: ``"none"``, ``"log"``, ``"log1p"`` or ``"quantile"``, see :class:`Regression`. A quantile of the
            transformed label is the transform of its quantile, so that nothing is lost on the way back.
        name: See :class:`Task`, as for the other arguments.

    Shape:
        outputs ``[N, K]``, targets ``[N]`` in standard units, values ``[N, K]`` in the user's.

    Raises:
        TargetError: If a label is no finite number, is outside the transform's domain, or all are missing or equal.

    Example:
        >>> task = Quantile(name="minutes", quantiles=(0.25, 0.75))
        >>> task.fit(np.array([0.0, 10.0, 20.0, 30.0, 40.0]))
        >>> answer = task.decode(task.initial_bias()[None])
        >>> answer.values.round(3).tolist(), answer.labels
        ([[10.0, 30.0]], (0.25, 0.75))

    Note:
        Answers and metrics use the outputs sorted, so that no lower quantile is above a higher one; sorting never
        makes the pinball loss worse (Chernozhukov et al.). The loss uses them as they are. ``coverage_gap`` is the mean
        over the quantiles of the distance between :math:`q` and the share of labels at or below the answer. The
        relative error is the pinball loss over that of the training quantiles, in the user's units. Outputs, and the
        work of the loss, grow with the number of quantiles.

    References:
        Koenker & Bassett, Regression Quantiles, Econometrica 1978, equation 2.2.
        Chernozhukov, Fernandez-Val & Galichon, Quantile and Probability Curves Without Crossing, Econometrica 2010.
    """

    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    scaling: str = "standard"
    transform: str = "none"
    scaler_: Scaler | None = field(default=None, init=False, repr=False)
    constants_: tuple[float, ...] = field(default=(), init=False, repr=False)

    kind: ClassVar[str] = "quantile"
    is_number: ClassVar[bool] = True
    decoding: ClassVar[str] = (
        "value = output * state.scaler.scale + state.scaler.centre for each quantile, then the inverse of "
        "state.scaler.transform; sorted"
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("pinball", higher_is_better=False, baseline_free=False),
        Metric("coverage_gap", higher_is_better=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.quantiles = tuple(float(q) for q in self.quantiles)
        is_increasing = all(low < high for low, high in zip(self.quantiles, self.quantiles[1:], strict=False))
        if not (self.quantiles and is_increasing and self.quantiles[0] > 0 and self.quantiles[-1] < 1):
            raise TargetError(f"{self.who} needs increasing quantiles between 0 and 1, got {self.quantiles!r}.")
        Scaler.check(self.who, self.scaling, self.transform)

    def fit(self, labels: np.ndarray) -> None:
        """Learn centre, scale, transform, and the training quantiles."""
        values, observed = numbers(self.who, labels)
        seen = different(self.who, values[observed], len(values))
        self.scaler_ = Scaler.learn(self.who, seen, self.scaling, self.transform)
        self.constants_ = tuple(np.quantile(seen, self.quantiles).tolist())

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to standard units."""
        values, observed = numbers(self.who, labels)
        return self.fitted(self.scaler_).encode(self.who, values, observed), observed

    @property
    def n_outputs(self) -> int:
        """One number for each quantile."""
        return len(self.quantiles)

    def label_losses(self, outputs: Float[Tensor, "*N K"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Mean pinball loss of each label in standard units."""
        z = full_precision(outputs)
        return self._pinball(z, targets.to(z.dtype)).mean(-1)

    def decode(self, outputs: Float[Tensor, "N K"]) -> Prediction:
        """Quantiles in the user's units, increasing."""
        z = finite(self.name, outputs).sort(-1).values
        return Prediction(self.fitted(self.scaler_).to_user(z.numpy()), labels=self.quantiles)

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N K"]:
        """Standard units."""
        values = np.asarray(prediction.values, dtype=np.float64)
        return torch.from_numpy(self.fitted(self.scaler_).to_standard(self.who, values))

    def evaluate(
        self, outputs: Float[Tensor, "N K"], targets: Shaped[Tensor, " N"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed labels, in the user's units."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        scaler = self.fitted(self.scaler_)
        answers = torch.from_numpy(scaler.to_user(seen[0].sort(-1).values.numpy()))
        truth = torch.from_numpy(scaler.to_user(seen[1].double().numpy()))
        errors = self._pinball(answers, truth)
        constants = torch.tensor(self.constants_, dtype=torch.float64)
        below = (truth.unsqueeze(-1) <= answers).double().mean(0)
        return {
            "pinball": errors.mean().item(),
            "coverage_gap": (below - torch.tensor(self.quantiles, dtype=torch.float64)).abs().mean().item(),
            "relative_error": relative_error(errors, self._pinball(constants.expand_as(answers), truth)),
        }

    def initial_bias(self) -> Float[Tensor, " K"]:
        """The training quantiles in standard units."""
        constants = self.fitted(self.scaler_).to_standard(self.who, np.array(self.constants_))
        return torch.as_tensor(constants, dtype=torch.get_default_dtype())

    def plain_columns(self) -> list[Column]:
        """A quantile each."""
        return [Column(self.name, k, "quantile", quantile=q) for k, q in enumerate(self.quantiles)]

    def in_units(self, targets: Shaped[Tensor, " N"]) -> np.ndarray:
        """Targets as the user has them."""
        return self.decode(targets.double()[:, None].expand(-1, self.n_outputs)).values[:, 0]

    def state(self) -> dict[str, Any]:
        """Scaler and training quantiles."""
        return {"scaler": self.fitted(self.scaler_).state(), "constants": list(self.constants_)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.scaler_ = Scaler.from_state(state["scaler"])
        self.constants_ = tuple(state["constants"])

    def _pinball(self, z: Float[Tensor, "*N K"], y: Float[Tensor, "*N"]) -> Float[Tensor, "*N K"]:
        q = torch.tensor(self.quantiles, dtype=z.dtype, device=z.device)
        residuals = y.unsqueeze(-1) - z
        return torch.maximum(q * residuals, (q - 1) * residuals)
