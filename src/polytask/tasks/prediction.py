"""What a task answers, in the user's units, and the forms in which it is written."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytask.shapes import object_array

__all__ = ["Column", "Prediction"]


@dataclass(frozen=True)
class Prediction:
    """A task's answer for N rows, in the user's units.

    Args:
        values: ``[N]`` (``[N, K]`` for tasks with K answers a row, ``[N, H, W, ...]`` for tasks of pixels): classes as
            the user named them, or numbers; for detection, a tuple of boxes a row.
        probabilities: ``[N, K]``, or ``None`` if the task has none.
        labels: Names of the K columns: classes, labels or quantiles.
    """

    values: np.ndarray
    probabilities: np.ndarray | None = None
    labels: tuple[Any, ...] = ()

    def within(self, lengths: np.ndarray) -> Prediction:
        """The answers for the elements that are there, for tasks of elements: a list for each row.

        Args:
            lengths: ``[N]``, how many elements each row has.
        """
        rows = [list(row[:n]) for row, n in zip(self.values, lengths, strict=True)]
        return dataclasses.replace(self, values=object_array(rows))

    def columns(self, task: str) -> dict[str, np.ndarray]:
        """The answer as flat columns for a table: the value, then a column for each probability."""
        flat: dict[str, np.ndarray] = {}
        if self.values.ndim > 2:  # a map a row, as lists of lists
            flat[task] = object_array(self.values.tolist())
        elif self.values.ndim == 1:
            is_sequence = self.values.dtype == object and len(self.values) > 0 and isinstance(self.values[0], list)
            texts = [" ".join(map(str, row)) for row in self.values] if is_sequence else None
            flat[task] = self.values if texts is None else np.array(texts, dtype=object)
        else:
            flat.update({f"{task}[{label}]": self.values[:, k] for k, label in enumerate(self.labels)})
        return {**flat, **self._chances(task)}

    def arrays(self, task: str) -> dict[str, np.ndarray]:
        """The answer as arrays that hold no objects: values, texts as such, and boxes one after another."""
        if not (self.values.dtype == object and any(isinstance(row, tuple) for row in self.values[:1])):
            flat = {task: self.values, **self._chances(task)} if self.values.ndim > 1 else self.columns(task)
            return {k: v.astype(str) if v.dtype == object else v for k, v in flat.items()}
        boxes = [(row, box) for row, found in enumerate(self.values) for box in found]
        return {
            f"{task}.row": np.array([row for row, _ in boxes], dtype=np.int64),
            f"{task}.class": np.array([box["class"] for _, box in boxes]),
            f"{task}.score": np.array([box["score"] for _, box in boxes], dtype=np.float64),
            f"{task}.box": np.array([box["box"] for _, box in boxes], dtype=np.float64).reshape(-1, 4),
        }

    def _chances(self, task: str) -> dict[str, np.ndarray]:
        """A column for each probability."""
        if self.probabilities is None:
            return {}
        return {f"P({task}={label})": self.probabilities[:, k] for k, label in enumerate(self.labels)}


@dataclass(frozen=True)
class Column:
    """One column of numbers or classes that a plain model predicts.

    Args:
        task: Name of the task.
        index: Position among the task's columns.
        what: ``number`` (standard units, which are the task's outputs), ``rate`` (an amount of at least 0, learned by
            its mean), ``classes`` (codes from 0), ``quantile`` (of a number in standard units).
        n_classes: Number of classes; 0 for numbers.
        quantile: Probability of the quantile.
    """

    task: str
    index: int
    what: str
    n_classes: int = 0
    quantile: float = 0.5

    @property
    def key(self) -> str:
        """A name for the column that is unique among all tasks' columns."""
        return f"{self.task}\n{self.index}"
