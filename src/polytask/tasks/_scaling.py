"""From the user's units to standard units and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from polytask.errors import TargetError
from polytask.tasks._labels import in_row

__all__ = ["Scaler"]

_SCALINGS = ("standard", "robust")
_TRANSFORMS = ("none", "log", "log1p", "quantile")
_KNOTS = 1001
_NORMAL_QUARTILES = 1.3489795003921634
"""Distance between the quartiles of a standard normal variable."""
_EDGE = 1e-7
"""Probability at which normal scores are cut, as the extremes of the training labels would be infinite."""


@dataclass(frozen=True)
class Scaler:
    """A transform, a centre and a scale.

    Args:
        transform: Its name.
        centre: Of the transformed training labels.
        scale: Of the transformed training labels.
        knots: Training quantiles at evenly spaced probabilities; empty unless the transform is ``quantile``.
    """

    transform: str
    centre: float
    scale: float
    knots: tuple[float, ...] = ()

    @staticmethod
    def check(who: str, scaling: str, transform: str) -> None:
        """Raise if there is no such scaling or transform.

        Raises:
            TargetError: If so.
        """
        for what, value, known in (("scaling", scaling, _SCALINGS), ("transform", transform, _TRANSFORMS)):
            if value not in known:
                raise TargetError(f"{who} needs a {what} out of {', '.join(known)}, got {value!r}.")

    @classmethod
    def learn(cls, who: str, values: np.ndarray, scaling: str, transform: str = "none") -> Scaler:
        """From the observed training labels, which are not all equal.

        Raises:
            TargetError: If one is outside the transform's domain.
        """
        knots: tuple[float, ...] = ()
        if transform == "quantile":
            knots = tuple(np.quantile(values, np.linspace(0, 1, min(_KNOTS, len(values)))).tolist())
        transformed = cls(transform, 0.0, 1.0, knots).to_standard(who, values)
        centre, scale = float(transformed.mean()), float(transformed.std())
        if scaling == "robust":
            low, centre, high = (float(q) for q in np.quantile(transformed, [0.25, 0.5, 0.75]))
            if high > low:
                scale = (high - low) / _NORMAL_QUARTILES
        if not (np.isfinite(scale) and scale > 0):
            raise TargetError(
                f"{who} has labels from {values.min()} to {values.max()}, whose spread float64 cannot hold. "
                "Give them in another unit, or leave the task out."
            )
        return cls(transform, centre, scale, knots)

    def to_standard(self, who: str, values: np.ndarray) -> np.ndarray:
        """The user's units to standard units.

        Raises:
            TargetError: If a value is outside the transform's domain.
        """
        return (self._forward(who, values) - self.centre) / self.scale

    def encode(
        self, who: str, values: np.ndarray, observed: np.ndarray, where: Callable[[int], str] = in_row
    ) -> np.ndarray:
        """Standard units in float32, 0 where not observed; ``where`` names a position for messages.

        Raises:
            TargetError: If an observed value is outside the transform's domain, or too far out for float32.
        """
        scaled = np.zeros(len(values))
        scaled[observed] = self.to_standard(who, values[observed])
        far = np.abs(scaled) > 1e18  # its square would be infinite in float32
        if far.any():
            first = int(np.flatnonzero(far)[0])
            raise TargetError(
                f"{who} got label {values[first]} in {where(first)}, {abs(scaled[first]):.1g} times the training "
                "labels' spread from their centre. Check its unit."
            )
        return scaled.astype(np.float32)

    def to_user(self, scaled: np.ndarray) -> np.ndarray:
        """Standard units to the user's."""
        with np.errstate(over="ignore"):  # exp of a wild answer is infinity, and is shown as such
            return self._backward(scaled * self.scale + self.centre)

    def state(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"knots": list(self.knots)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Scaler:
        """Take back what :meth:`state` gave."""
        return cls(**(state | {"knots": tuple(state["knots"])}))

    def _forward(self, who: str, values: np.ndarray) -> np.ndarray:
        if self.transform == "none":
            return values
        if self.transform == "quantile":
            # The mean of the interpolations from both sides gives tied labels the middle of their probabilities.
            knots, p = np.array(self.knots), np.linspace(0, 1, len(self.knots))
            ranks = (np.interp(values, knots, p) - np.interp(-values, -knots[::-1], -p[::-1])) / 2
            return np.asarray(ndtri(np.clip(ranks, _EDGE, 1 - _EDGE)))
        floor = 0.0 if self.transform == "log" else -1.0
        if (values <= floor).any():
            bad = values[values <= floor][0]
            raise TargetError(
                f"{who} has transform {self.transform!r}, which needs labels above {floor:g}, got {bad}. "
                "Use another transform, or 'none'."
            )
        return np.asarray(np.log(values) if self.transform == "log" else np.log1p(values))

    def _backward(self, transformed: np.ndarray) -> np.ndarray:
        if self.transform == "log":
            return np.asarray(np.exp(transformed))
        if self.transform == "log1p":
            return np.asarray(np.expm1(transformed))
        if self.transform == "quantile":
            return np.asarray(np.interp(ndtr(transformed), np.linspace(0, 1, len(self.knots)), np.array(self.knots)))
        return transformed
