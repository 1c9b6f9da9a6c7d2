"""A number of events, learned by its log rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import different, numbers
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.prediction import Column
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Count"]

_LEAST = 1e-12
_STEEPEST = 30.0
"""Log of rate over count beyond which the loss goes on as a straight line: exp(88) is infinite in float32."""


@dataclass(kw_only=True)
class Count(Task):
    r"""Predicts how often something happens: visits, claims, goals. Labels are 0, 1, 2, ...

    The output is the logarithm :math:`z` of a Poisson rate. The loss of a label is its Poisson deviance

    .. math:: d(y, z) = 2 \left[ y \log \frac{y}{e^z} - (y - e^z) \right]

    over the mean deviance of the training labels from their mean, so that the best constant costs 1 whatever the size
    of the counts. It has the gradient of the Poisson negative log-likelihood up to that one factor; the terms that
    do not depend on :math:`z`, the factorial among them, are those that make a perfect prediction cost 0.

    Args:
        name: See :class:`Task`, as for the other arguments.

    Shape:
        outputs ``[N, 1]``, targets ``[N]``, values ``[N]`` (expected counts).

    Raises:
        TargetError: If a label is negative, fractional, infinite or no number, or all are missing or equal.

    Example:
        >>> task = Count(name="visits")
        >>> task.fit(np.array([0.0, 4.0, 2.0, np.nan]))
        >>> task.decode(task.initial_bias()[None]).values.round(3).tolist()
        [2.0]

    Note:
        Where the rate is more than :math:`e^{30}` times the count the deviance goes on as its tangent, so that loss
        and gradient stay finite. ``d2`` is 1 minus the deviance over that of the evaluated labels' own mean,
        ``relative_error`` the deviance over that of the training mean. Counts that vary more than a Poisson variable
        are still predicted in the mean, but probabilities of single counts would be wrong; none are given. It costs one
        output and one term of the loss for each row.

    References:
        McCullagh & Nelder, Generalized Linear Models, 2nd edition, 1989, section 2.3 (deviance).
    """

    mean_: float | None = field(default=None, init=False, repr=False)
    null_deviance_: float = field(default=1.0, init=False, repr=False)

    kind: ClassVar[str] = "count"
    is_number: ClassVar[bool] = True
    ranks_rows: ClassVar[bool] = True
    decoding: ClassVar[str] = "rate = exp(output)"
    link: ClassVar[str] = "log"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("d2", higher_is_better=True),
        Metric("poisson_deviance", higher_is_better=False, baseline_free=False),
        Metric("mae", higher_is_better=False, baseline_free=False),
        RELATIVE_ERROR,
    )

    def fit(self, labels: np.ndarray) -> None:
        """Learn the mean, and the deviance from it."""
        counts, observed = self._counts(labels)
        seen = different(self.who, counts[observed], len(counts))
        mean = float(seen.mean())
        constant = torch.full((len(seen),), math.log(mean), dtype=torch.float64)
        self.mean_, self.null_deviance_ = mean, deviances(constant, torch.from_numpy(seen)).mean().item()

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels as float32."""
        self.fitted(self.mean_)
        counts, observed = self._counts(labels)
        return np.where(observed, counts, 0).astype(np.float32), observed

    @property
    def n_outputs(self) -> int:
        """One log rate."""
        return 1

    def label_losses(self, outputs: Float[Tensor, "*N 1"], targets: Shaped[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Deviance of each label over the training mean's."""
        z = full_precision(outputs).squeeze(-1)
        return deviances(z, targets.to(z.dtype)) / self.null_deviance_

    def decode(self, outputs: Float[Tensor, "N 1"]) -> Prediction:
        """Expected counts."""
        return Prediction(torch.exp(finite(self.name, outputs).squeeze(-1)).numpy())

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N 1"]:
        """Logarithms of the expected counts; an expectation below 1e-12 counts as that.

        Raises:
            TargetError: If one is negative.
        """
        expected = np.asarray(prediction.values, dtype=np.float64)
        if (expected < 0).any():
            raise TargetError(f"{self.who} needs expected counts of at least 0, got {expected.min():g}.")
        return torch.from_numpy(np.log(np.maximum(expected, _LEAST)))[:, None]

    def evaluate(
        self, outputs: Float[Tensor, "N 1"], targets: Shaped[Tensor, " N"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed labels."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        from torchmetrics.functional import mean_absolute_error

        z, y = seen[0].squeeze(-1), seen[1].double()
        errors = deviances(z, y)
        own_mean = deviances(y.mean().log().expand_as(z), y) if (y != y[0]).any() else torch.zeros_like(z)
        constant = deviances(torch.full_like(z, math.log(self.fitted(self.mean_))), y)
        return {
            "d2": 1 - relative_error(errors, own_mean),
            "poisson_deviance": errors.mean().item(),
            "mae": mean_absolute_error(z.exp(), y).item(),
            "relative_error": relative_error(errors, constant),
        }

    def initial_bias(self) -> Float[Tensor, " 1"]:
        """Logarithm of the training mean."""
        return torch.tensor([math.log(self.fitted(self.mean_))])

    def plain_columns(self) -> list[Column]:
        """One rate."""
        return [Column(self.name, 0, "rate")]

    def state(self) -> dict[str, Any]:
        """Mean and deviance."""
        return {"mean": self.fitted(self.mean_), "null_deviance": self.null_deviance_}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.mean_, self.null_deviance_ = float(state["mean"]), float(state["null_deviance"])

    def _counts(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts, observed = numbers(self.who, labels)
        bad = observed & ((counts < 0) | (counts != np.floor(counts)))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise TargetError(
                f"{self.who} needs counts (0, 1, 2, ...) as labels, got {counts[row]:g} in row {row}. "
                "Use kind 'regression'."
            )
        return counts, observed


def deviances(log_rates: Float[Tensor, "*N"], counts: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    r"""Poisson deviance of each count.

    With :math:`u = z - \log y` it is :math:`2 y (e^u - 1 - u)`, which keeps its digits near a perfect prediction of a
    large count, where the textbook form is a difference of large numbers.
    """
    is_positive = counts > 0
    size = torch.where(is_positive, counts, 1.0)
    u = log_rates - size.log()
    near = u.clamp(max=_STEEPEST)
    excess = torch.expm1(near) + near.exp() * (u - near)
    return 2 * torch.where(is_positive, size * (excess - u), excess + 1)
