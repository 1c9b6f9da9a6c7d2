"""One column of a table to numbers: its scaling, its categories."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import ndtri

from polytask.data.cells import READERS, category_keys, check_finite
from polytask.data.kinds import Kind
from polytask.errors import InputError

__all__ = ["SCALINGS", "CategoricalColumn", "NumericColumn", "Scaler", "Scaling"]

Scaling: TypeAlias = Literal["standard", "robust", "quantile"]
SCALINGS: tuple[Scaling, ...] = ("standard", "robust", "quantile")

_QUANTILES = 1000
_QUANTILE_EDGE = 1e-7


@dataclass(frozen=True)
class Scaler:
    r"""Numbers to a scale that a network can read: :math:`(x - c) / s`, or the normal score of the quantile.

    Args:
        center: Subtracted; the median in training for quantiles.
        scale: Divided by.
        knots: Values at the quantiles ``levels``, or empty for the linear scalings.
        levels: In 0 to 1, ascending.
    """

    center: float
    scale: float
    knots: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()

    @classmethod
    def fit(cls, present: np.ndarray, scaling: Scaling) -> Scaler:
        """Learn from the observed values of a column that is not constant.

        ``robust`` is median and interquartile range, and the standard deviation where that range is 0.
        """
        if scaling == "standard":
            return cls(float(present.mean()), float(present.std()))
        low, middle, high = np.quantile(present, [0.25, 0.5, 0.75])
        if scaling == "robust":
            return cls(float(middle), float(high - low) or float(present.std()))
        levels = np.linspace(0, 1, min(_QUANTILES, len(present)))
        knots, which = np.unique(np.quantile(present, levels), return_inverse=True)
        # A value that is many quantiles at once stands at the middle of them.
        levels = np.bincount(which, weights=levels) / np.bincount(which)
        return cls(float(middle), 1.0, tuple(knots.tolist()), tuple(levels.tolist()))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Scaled values; NaN stays NaN."""
        if not self.knots:
            return (values - self.center) / self.scale
        level = np.interp(values, self.knots, self.levels)
        return np.where(np.isnan(values), np.nan, ndtri(np.clip(level, _QUANTILE_EDGE, 1 - _QUANTILE_EDGE)))


@dataclass(frozen=True)
class NumericColumn:
    """A numeric, boolean or date column as one or several scaled numbers, 0 where missing.

    Args:
        name: The column.
        kind: ``numeric``, ``boolean`` or ``date``.
        parts: A scaler for each number made from a value; the key ``""`` is the value itself.
        medians: Stand-in for a missing value of each part, where none was missing in training.
        has_indicator: Whether a last number says that the value is missing: where some were in training.
    """

    name: str
    kind: Kind
    parts: dict[str, Scaler]
    medians: dict[str, float]
    has_indicator: bool

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers."""
        names = [f"{self.name} ({part})" if part else self.name for part in self.parts]
        return (*names, f"{self.name} (missing)") if self.has_indicator else tuple(names)

    @classmethod
    def fit(cls, name: str, kind: Kind, values: pd.Series[Any], scaling: Scaling) -> NumericColumn:
        """Learn from the training rows; a part that is constant is left out.

        Raises:
            InputError: If a value is infinite or not of the kind.
        """
        raw = READERS[kind](values, name)
        missing = np.isnan(next(iter(raw.values())))
        parts: dict[str, Scaler] = {}
        medians: dict[str, float] = {}
        for part, numbers in raw.items():
            check_finite(numbers, values, name)
            present = numbers[~missing]
            if not len(present) or present.min() == present.max():
                continue
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is caught below
                parts[part] = Scaler(0.0, 1.0) if kind == "boolean" else Scaler.fit(present, scaling)
            if not np.isfinite([parts[part].center, parts[part].scale]).all():
                raise InputError(
                    f"Column {name!r} holds numbers too large to scale (up to {np.abs(present).max():g}): give "
                    "them in another unit, or drop the column."
                )
            medians[part] = float(np.median(present))
        return cls(name, kind, parts, medians, bool(missing.any() and not missing.all()))

    def encode(self, values: pd.Series[Any] | np.ndarray, out: np.ndarray) -> int:
        """Write the numbers into ``out``, ``[N, len(features)]``; returns how many missing values were imputed.

        Args:
            values: The cells; as an array if they were checked one by one, see
                :class:`~polytask.data.checked.CheckedRows`.
            out: Where the numbers go.

        Raises:
            InputError: If a value is infinite, too large, or not of the kind.
        """
        raw = self._read(values)
        missing = np.isnan(next(iter(raw.values())))
        any_missing = bool(missing.any())
        for j, (part, scaler) in enumerate(self.parts.items()):
            numbers = raw[part]
            if not isinstance(values, np.ndarray):
                check_finite(numbers, values, self.name)
            if any_missing and not self.has_indicator:
                numbers = np.where(missing, self.medians[part], numbers)
            with np.errstate(over="ignore"):
                scaled = scaler(numbers).astype(np.float32)
            if any_missing and self.has_indicator:
                scaled[missing] = 0.0
            finite = np.isfinite(scaled)
            if not finite.all():
                worst, values = int(finite.argmin()), pd.Series(values)
                raise InputError(
                    f"Column {self.name!r}, row {values.index[worst]}: {values.iloc[worst]} is too large a "
                    "number. Correct it, or leave the cell empty.",
                    self.name,
                )
            out[:, j] = scaled
        if self.has_indicator:
            out[:, -1] = missing
            return 0
        return int(missing.sum()) if any_missing else 0

    def _read(self, values: pd.Series[Any] | np.ndarray) -> dict[str, np.ndarray]:
        """The numbers of each part, NaN where missing."""
        if isinstance(values, np.ndarray):
            if self.kind == "numeric":
                return {"": values}
            if self.kind == "boolean":
                return {"": 2.0 * values - 1.0}
            values = pd.Series(values)
        return READERS[self.kind](values, self.name)

    def state(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        # Not by dataclasses.asdict, which copies a thousand quantiles one by one.
        parts = {part: dict(vars(scaler)) for part, scaler in self.parts.items()}
        return {**vars(self), "parts": parts, "medians": dict(self.medians)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> NumericColumn:
        """Take back what :meth:`state` gave."""
        parts = {
            part: Scaler(s["center"], s["scale"], tuple(s["knots"]), tuple(s["levels"]))
            for part, s in state["parts"].items()
        }
        return cls(state["name"], state["kind"], parts, dict(state["medians"]), state["has_indicator"])


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories as codes: 0 missing, 1 rare or never seen in training, the known ones from 2 on.

    Values are compared as texts, and whole numbers without their point, so that ``1``, ``1.0`` and ``"1"`` are one
    category however a file was read.

    Args:
        name: The column.
        categories: The known ones, in the order of their codes.
        buckets: Codes that rare and unseen values share: code 1, and with more than one those after the known ones. A
            value's hash says which is its own, the same in every process, so that users who are new look different.

    Example:
        >>> column = CategoricalColumn("user", ("ann", "bob"), buckets=8)
        >>> codes = np.empty(4, np.int64)
        >>> column.encode(pd.Series(["bob", "eve", "eve", None]), codes)
        >>> codes.tolist()[:1], bool(codes[1] == codes[2] > 0), column.cardinality
        ([3], True, 11)

    References:
        Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.
    """

    name: str
    categories: tuple[str, ...]
    buckets: int = 1

    @property
    def cardinality(self) -> int:
        """Number of codes."""
        return len(self.categories) + 1 + self.buckets

    @classmethod
    def fit(
        cls, name: str, values: pd.Series[Any], min_count: int, max_categories: int
    ) -> tuple[CategoricalColumn, bool]:
        """Learn the categories; the flag says whether the codes of the training rows are all the same."""
        codes, distinct = pd.factorize(values)
        counts: dict[str, int] = {}
        for key, count in zip(
            category_keys(distinct), np.bincount(codes[codes >= 0], minlength=len(distinct)), strict=True
        ):
            counts[key] = counts.get(key, 0) + int(count)
        frequent = sorted((key for key, n in counts.items() if n >= min_count), key=lambda key: (-counts[key], key))
        kept = sorted(frequent[:max_categories])
        groups = len(kept) + (len(counts) > len(kept)) + bool((codes < 0).any())
        return cls(name, tuple(kept)), groups <= 1

    def encode(self, values: pd.Series[Any] | np.ndarray, out: np.ndarray) -> None:
        """Write the codes into ``out``, ``[N]``; of an array, each cell is a category's key, or ``None``."""
        known = self._codes
        if isinstance(values, np.ndarray):
            out[:] = [0 if key is None else known.get(key) or self._bucket(key) for key in values]
            return
        codes, distinct = pd.factorize(values)
        # The last entry is where the -1 of a missing value points.
        keys = category_keys(distinct)
        table = np.array([*(known.get(key) or self._bucket(key) for key in keys), 0], dtype=np.int64)
        out[:] = table[codes]

    def _bucket(self, key: str) -> int:
        bucket = zlib.crc32(key.encode("utf-8", "surrogatepass")) % self.buckets
        return 1 if bucket == 0 else len(self.categories) + 1 + bucket

    def unknown(self, values: pd.Series[Any]) -> np.ndarray:
        """Which values are none of the known categories, and not missing; hashed columns know them all."""
        codes: np.ndarray = np.empty(len(values), dtype=np.int64)
        self.encode(values, codes)
        found: np.ndarray = (codes == 1) & (self.buckets == 1)
        return found

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {category: code for code, category in enumerate(self.categories, start=2)}

    def state(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        state = {"name": self.name, "kind": "categorical", "categories": list(self.categories)}
        return state if self.buckets == 1 else {**state, "buckets": self.buckets}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CategoricalColumn:
        """Take back what :meth:`state` gave."""
        return cls(state["name"], tuple(state["categories"]), state.get("buckets", 1))
