"""A spectrogram, or another array of numbers, from what is known of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._labels import in_array, numbers
from polytask.tasks._scoring import RELATIVE_ERROR, finite, full_precision, observed_rows, relative_error, undefined
from polytask.tasks.task import Metric, Prediction, Task

__all__ = ["Synthesis"]


@dataclass(kw_only=True)
class Synthesis(Task):
    r"""Makes a spectrogram: how it sounds when this speaker says that digit.

    The loss of a row is the mean squared error of its numbers, which are taken less the mean of each over training and
    over one scale for all, so that those that vary more count more.

    For a row of :math:`n` numbers :math:`x_j`, with outputs :math:`z_j`, means :math:`\mu_j` over training and one
    scale :math:`\sigma`, the root mean square of :math:`x_j - \mu_j` over training, the loss is

    .. math:: \frac1n \sum_j \left( z_j - \frac{x_j - \mu_j}{\sigma} \right)^2 .

    Args:
        name: See :class:`Task`, as for the other arguments.

    Shape:
        labels ``[N, T, F]``, or any other shape of a row, NaN all over where a row has none, or ``[N]`` arrays and
        ``None``; outputs and targets ``[N, T * F]``, values ``[N, T, F]``

    Raises:
        TargetError: If all labels are missing or are alike, a row has numbers and gaps, or another shape than training.

    Example:
        >>> task = Synthesis(name="sound")
        >>> task.fit(np.array([[[0.0, 2.0]], [[2.0, 2.0]]]))
        >>> task.decode(torch.tensor([[1.0, 0.0]])).values.round(3).tolist()
        [[[1.707, 2.0]]]

    Note:
        The likeliest spectrogram in squares is the mean of all that fit the inputs, and sounds as blurred as these
        differ. ``distance`` is the root of the mean square over the last dimension, a mean over rows and moments: the
        log-spectral distance, if the labels are in decibels. :func:`polytask.data.heard` makes waves of the values.
        Outputs grow with the numbers of a row, so that a long spectrogram makes a large head.

    References:
        Gray and Markel, Distance measures for speech processing, IEEE TASSP 1976 (log-spectral distance).
    """

    means_: np.ndarray | None = field(default=None, init=False, repr=False)
    scale_: float = field(default=1.0, init=False, repr=False)

    kind: ClassVar[str] = "synthesis"
    decoding: ClassVar[str] = "numbers = output in the shape of state.means, * state.scale + state.means"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("distance", higher_is_better=False, baseline_free=False),
        Metric("mse", higher_is_better=False, baseline_free=False),
        RELATIVE_ERROR,
    )

    def fit(self, labels: np.ndarray) -> None:
        """Learn the mean of each number, and one scale."""
        table, observed = self._read(labels)
        seen = table[observed]
        if not seen.size or bool((seen == seen[:1]).all()):
            what = "the same numbers in each row" if len(seen) else "no numbers"
            raise TargetError(f"{self.who} has {what} of its {len(table)}; there is nothing to learn.")
        self.means_ = seen.mean(0)
        self.scale_ = float(np.sqrt(np.mean((seen - self.means_) ** 2)))

    def encode(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers less their means, over the scale.

        Raises:
            TargetError: If rows have another shape than in training.
        """
        means = self.fitted(self.means_)
        table, observed = self._read(labels)
        if table.shape[1:] != means.shape:
            if observed.any():
                raise TargetError(f"{self.who} learned rows of shape {means.shape}, got {table.shape[1:]}.")
            table = np.zeros((len(table), *means.shape))
        standard = np.where(_wide(observed, table), (table - means) / self.scale_, 0.0)
        return standard.reshape(len(table), means.size).astype(np.float32), observed

    @property
    def n_outputs(self) -> int:
        """One for each number."""
        return int(self.fitted(self.means_).size)

    def label_losses(self, outputs: Float[Tensor, "*N O"], targets: Float[Tensor, "*N O"]) -> Float[Tensor, "*N"]:
        """Mean squared error of each row."""
        return (full_precision(outputs) - targets).square().mean(-1)

    def decode(self, outputs: Float[Tensor, "N O"]) -> Prediction:
        """The numbers in the user's units."""
        means = self.fitted(self.means_)
        z = finite(self.name, outputs).numpy()
        return Prediction(z.reshape(len(z), *means.shape) * self.scale_ + means)

    def outputs_from(self, prediction: Prediction) -> Float[Tensor, "N O"]:
        """The numbers less their means, over the scale."""
        values = np.asarray(prediction.values, dtype=np.float64)
        return torch.from_numpy(((values - self.fitted(self.means_)) / self.scale_).reshape(len(values), -1))

    def evaluate(
        self, outputs: Float[Tensor, "N O"], targets: Float[Tensor, "N O"], observed: Bool[Tensor, " N"]
    ) -> dict[str, float]:
        """Metrics over the observed rows."""
        seen = observed_rows(outputs, targets, observed)
        if seen is None:
            return undefined(self.metrics)
        z, y = seen[0], seen[1].double()
        last = (self.fitted(self.means_).shape or (1,))[-1]
        moments = ((z - y) * self.scale_).square().unflatten(1, (-1, last)).mean(-1)
        return {
            "distance": moments.sqrt().mean().item(),
            "mse": moments.mean().item(),
            "relative_error": relative_error(self.label_losses(z, y), y.square().mean(-1)),
        }

    def state(self) -> dict[str, Any]:
        """Means and scale."""
        return {"means": self.fitted(self.means_).tolist(), "scale": self.scale_}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.means_, self.scale_ = np.array(state["means"], dtype=np.float64), float(state["scale"])

    def _read(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers, 0 in rows that have none, and which rows have them."""
        table = np.asarray(labels)
        if table.ndim == 1 and any(isinstance(row, list | tuple | np.ndarray) for row in table):
            table = self._stacked(table)
        values, seen = numbers(self.who, table.reshape(-1), in_array(table.shape))
        values, seen = values.reshape(table.shape), seen.reshape(len(table), math.prod(table.shape[1:]))
        observed = np.asarray(seen.all(1) if seen.size else np.zeros(len(table)), dtype=bool)
        if gaps := np.flatnonzero(seen.any(1) & ~observed).tolist():
            raise TargetError(f"{self.who} has a row with numbers and gaps, row {gaps[0]}; leave out the whole row.")
        return np.where(_wide(observed, values), values, 0.0), observed

    def _stacked(self, rows: np.ndarray) -> np.ndarray:
        """Arrays of one shape, and NaN where a row has none."""
        arrays: list[np.ndarray | None] = []
        for number, row in enumerate(rows):
            if pd.api.types.is_scalar(row) and pd.isna(row):
                arrays.append(None)
                continue
            try:
                arrays.append(np.asarray(row, dtype=np.float64))
            except (TypeError, ValueError):
                raise TargetError(f"{self.who} needs an array of numbers in row {number}, got {row!r:.60}.") from None
        shapes = {array.shape for array in arrays if array is not None}
        if len(shapes) != 1:
            raise TargetError(f"{self.who} needs arrays of one shape in every row, got {sorted(shapes)[:5]}.")
        (shape,) = shapes
        return np.stack([np.full(shape, np.nan) if array is None else array for array in arrays])


def _wide(rows: Shaped[np.ndarray, " N"], like: np.ndarray) -> np.ndarray:
    """One truth value a row, for arrays of more dimensions."""
    return rows.reshape(-1, *[1] * (like.ndim - 1))
