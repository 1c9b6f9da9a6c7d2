"""A number, learned in standard units and reported in the user's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import different, numbers
from polytask.tasks._scaling import Scaler
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.prediction import Column
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Regression"]

_OBJECTIVES = ("squared", "absolute", "huber")
_HUBER = 1.345
"""Where Huber's loss turns from square to line, in standard units: 95 % as efficient as squares on normal errors."""


@dataclass(kw_only=True)
class Regression(Task):
    r"""Predicts a number: a price, a temperature, a load.

    Labels are transformed, then centred and scaled with what the training labels say; with residual :math:`r` in
    those standard units the loss of a label is :math:`r^2` (``squared``), :math:`|r|` (``absolute``) or

    .. math:: \begin{cases} r^2 & |r| \le \delta \\ 2 \delta |r| - \delta^2 & |r| > \delta \end{cases}

    with :math:`\delta = 1.345` (``huber``). So tasks in different units meet the joint loss on one scale.

    Args:
        objective: ``"squared"`` aims at the mean; ``"absolute"`` at the median; ``"huber"`` at the mean, but lets
            no outlier pull harder than :math:`\delta`.
        scaling: ``"standard"`` (mean and standard deviation) or ``"robust"`` (median, and the quartile range over
            1.349; the standard deviation if the quartiles are equal).
        transform: Applied before scaling: ``"none"``, ``"log"`` (labels above 0), ``"log1p"`` (above -1), or
            ``"quantile"`` (to normal scores by the training quantiles; predictions stay within the training range).
        name: See :class:`Task`, as for the other arguments.

    Shape:
        outputs ``[N, 1]``, targets ``[N]`` in standard units, values ``[N]`` in the user's.

    Raises:
        TargetError: If a label is no finite number, is outside the transform's domain, or all are missing or equal.

    Example:
        >>> task = Regression(name="price")
        >>> task.fit(np.array([100.0, 300.0, np.nan]))
        >>> targets, observed = task.encode(np.array([300.0, np.nan]))
        >>> targets.tolist(), observed.tolist()
        ([1.0, 0.0], [True, False])
        >>> task.decode(torch.tensor([[0.5]])).values.tolist()
        [250.0]

    Note:
        Metrics are in the user's units. With a transform, squares are averaged in the transformed units, so that the
        answer is nearer to the median than to the mean of the user's. The relative error is, in the user's units,
        the mean squared error over that of the training mean (``squared``), or the mean absolute error over that of the
        training median (``absolute``, ``huber``). R² is NaN for fewer than two observed labels or if all are equal. It
        costs one output and one term of the loss for each row.

    References:
        Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 1964.
    """

    objective: str = "squared"
    scaling: str = "standard"
    transform: str = "none"
    scaler_: Scaler | None = field(default=None, init=False, repr=False)
    bias_: float = field(default=0.0, init=False, repr=False)
    constant_: float = field(default=math.nan, init=False, repr=False, compare=False)

    kind: ClassVar[str] = "regression"
    is_number: ClassVar[bool] = True
    ranks_rows: ClassVar[bool] = True
    decoding: ClassVar[str] = (
        "value = output * state.scaler.scale + state.scaler.centre, then the inverse of state.scaler.transform"
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("r2", higher_is_better=True),
        Metric("rmse", higher_is_better=False, baseline_free=False),
        Metric("mae", higher_is_better=False, baseline_free=False),
        RELATIVE_ERROR,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in _OBJECTIVES:
            raise TargetError(f"{self.who} needs an objective out of {', '.join(_OBJECTIVES)}, got {self.objective!r}.")
        Scaler.check(self.who, self.scaling, self.transform)

    def fit(self, labels: np.ndarray) -> None:
        """Learn centre, scale, transform, and the best constants."""
        values, observed = numbers(self.who, labels)
        seen = different(self.who, values[observed], len(values))
        self.scaler_ = Scaler.learn(self.who, seen, self.scaling, self.transform)
        z = self.scaler_.to_standard(self.who, seen)
        if self.objective == "huber":
            self.bias_ = _huber_centre(z)
        else:
            self.bias_ = float(z.mean() if self.objective == "squared" else np.median(z))
        self.constant_ = float(seen.mean() if self.objective == "squared" else np.median(seen))

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels to standard units."""
        values, observed = numbers(self.who, labels)
        return self.fitted(self.scaler_).encode(self.who, values, observed), observed

    @property
    def n_outputs(self) -> int:
        """One number, in standard units."""
        return 1

    def label_losses(self, outputs: Float[Tensor, "*N 1"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Loss of each label in standard units."""
        z = full_precision(outputs).squeeze(-1)
        residuals = z - targets.to(z.dtype)
        if self.objective == "squared":
            return residuals.square()
        if self.objective == "absolute":
            return residuals.abs()
        return 2 * F.huber_loss(residuals, torch.zeros_like(residuals), reduction="none", delta=_HUBER)

    def decode(self, outputs: Float[Tensor, "N 1"]) -> Prediction:
        """Numbers in the user's units."""
        return Prediction(self.fitted(self.scaler_).to_user(finite(self.name, outputs).squeeze(-1).numpy()))

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N 1"]:
        """Standard units."""
        values = np.asarray(prediction.values, dtype=np.float64)
        return torch.from_numpy(self.fitted(self.scaler_).to_standard(self.who, values))[:, None]

    def evaluate(
        self, outputs: Float[Tensor, "N 1"], targets: Shaped[Tensor, " N"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed labels, in the user's units."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

        scaler = self.fitted(self.scaler_)
        answers = torch.from_numpy(scaler.to_user(seen[0].squeeze(-1).numpy()))
        truth = torch.from_numpy(scaler.to_user(seen[1].double().numpy()))
        varies = bool((truth != truth[0]).any())
        # The sums of squares in R² lose their digits if the mean is large; R² does not change with an offset.
        centre = truth.mean()
        power = 2 if self.objective == "squared" else 1
        return {
            "r2": r2_score(answers - centre, truth - centre).item() if varies else math.nan,
            "rmse": mean_squared_error(answers, truth, squared=False).item(),
            "mae": mean_absolute_error(answers, truth).item(),
            "relative_error": relative_error((answers - truth).abs() ** power, (self.constant_ - truth).abs() ** power),
        }

    def initial_bias(self) -> Float[Tensor, " 1"]:
        """The best constant for the objective, in standard units."""
        self.fitted(self.scaler_)
        return torch.tensor([self.bias_])

    def plain_columns(self) -> list[Column]:
        """One number."""
        return [Column(self.name, 0, "number")]

    def in_units(self, targets: Shaped[Tensor, " N"]) -> np.ndarray:
        """Targets as the user has them."""
        return self.decode(targets.double()[:, None]).values

    def state(self) -> dict[str, Any]:
        """Scaler and constants."""
        return {"scaler": self.fitted(self.scaler_).state(), "bias": self.bias_, "constant": self.constant_}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.scaler_ = Scaler.from_state(state["scaler"])
        self.bias_, self.constant_ = float(state["bias"]), float(state["constant"])


def _huber_centre(z: np.ndarray) -> float:
    from scipy.optimize import brentq

    # The derivative of the mean loss falls from positive to negative between the extremes; its root is the centre.
    return float(brentq(lambda c: float(np.clip(z - c, -_HUBER, _HUBER).mean()), z.min(), z.max()))
