"""Tasks as plain columns, and inputs as one matrix: how models that know no tasks are trained and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polytask.data.batch import ArraySource
from polytask.errors import InputError
from polytask.shapes import Tensor
from polytask.tasks.task import Prediction, Task

__all__ = ["Column", "columns_of", "input_matrix", "labels_of_column", "outputs_of_columns"]


@dataclass(frozen=True)
class Column:
    """One column of numbers or classes that a plain model predicts.

    Args:
        task: Name of the task.
        index: Position among the task's columns.
        what: ``number`` (standard units), ``rate`` (a count), ``classes`` (codes from 0), ``quantile``.
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


def columns_of(task: Task) -> list[Column]:
    """The columns of a fitted task; empty for a kind that plain models cannot serve.

    Example:
        >>> from polytask.tasks import Binary
        >>> task = Binary(name="ill")
        >>> task.fit(np.array([0, 1, 1]))
        >>> columns_of(task)
        [Column(task='ill', index=0, what='classes', n_classes=2, quantile=0.5)]
    """
    name, width = task.name, task.n_outputs
    if task.kind == "regression":
        return [Column(name, 0, "number")]
    if task.kind == "count":
        return [Column(name, 0, "rate")]
    if task.kind in ("binary", "multiclass", "ordinal"):
        return [Column(name, 0, "classes", width if task.kind == "multiclass" else width + 1)]
    if task.kind == "multilabel":
        return [Column(name, k, "classes", 2) for k in range(width)]
    if task.kind == "quantile":
        quantiles: Sequence[float] = task.quantiles  # type: ignore[attr-defined]
        return [Column(name, k, "quantile", quantile=q) for k, q in enumerate(quantiles)]
    return []


def labels_of_column(column: Column, source: ArraySource) -> np.ndarray:
    """A column's labels as float64, NaN where not observed."""
    targets, observed = source.targets[column.task], source.observed[column.task]
    if targets.ndim > 1:
        targets, observed = targets[:, column.index], observed[:, column.index]
    return np.where(observed.numpy(), targets.double().numpy(), np.nan)


def outputs_of_columns(task: Task, answers: Sequence[np.ndarray]) -> Tensor:
    """A task's outputs from the answers for its columns: ``[N]`` numbers, or ``[N, K]`` probabilities of classes."""
    if task.kind in ("regression", "quantile"):  # already standard units, as outputs are
        return torch.from_numpy(np.column_stack(answers).astype(np.float32))
    if task.kind == "count":
        prediction = Prediction(np.maximum(answers[0], 0.0))
    elif task.kind == "multilabel":
        probabilities = np.column_stack([answer[:, 1] for answer in answers])
        prediction = Prediction(probabilities > 0.5, probabilities)
    else:
        prediction = Prediction(answers[0].argmax(1), answers[0])
    return task.outputs_from(prediction).float()


def input_matrix(inputs: Any, cardinalities: Sequence[int] = ()) -> np.ndarray:
    """Encoded inputs as one matrix ``[N, D]``, float32: numbers first, then codes, or one column for each code.

    Args:
        inputs: A tensor, or a dict of tensors, of one source.
        cardinalities: Number of codes of each categorical column, to have them as 0/1 columns; else they stay codes.

    Raises:
        InputError: If a categorical tensor has another number of columns.
    """
    fields = {"": inputs} if isinstance(inputs, Tensor) else dict(inputs)
    codes = fields.pop("categorical", None)
    parts = [field.flatten(1).numpy().astype(np.float32) for field in fields.values()]
    if codes is not None and not cardinalities:
        parts.append(codes.numpy().astype(np.float32))
    elif codes is not None:
        if codes.shape[1] != len(cardinalities):
            raise InputError(
                f"A model of this bundle reads {len(cardinalities)} categorical columns, got {codes.shape[1]}."
            )
        for position, count in enumerate(cardinalities):
            # A code beyond those of training cannot come out of the transform that was fitted with the model.
            parts.append(np.eye(count, dtype=np.float32)[codes[:, position].numpy()])
    return np.hstack(parts)
