"""Tasks as plain columns, and inputs as one matrix: how models that know no tasks are trained and read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from polytask.data.batch import ArraySource
from polytask.errors import InputError
from polytask.shapes import Tensor
from polytask.tasks.prediction import Column
from polytask.tasks.task import Task

__all__ = ["Column", "columns_of", "input_matrix", "labels_of_column", "outputs_of_columns"]


def columns_of(task: Task) -> list[Column]:
    """The columns of a fitted task; empty for a kind that plain models cannot serve.

    Example:
        >>> from polytask.tasks import Binary
        >>> task = Binary(name="ill")
        >>> task.fit(np.array([0, 1, 1]))
        >>> columns_of(task)
        [Column(task='ill', index=0, what='classes', n_classes=2, quantile=0.5)]
    """
    return task.plain_columns()


def labels_of_column(column: Column, source: ArraySource) -> np.ndarray:
    """A column's labels as float64, NaN where not observed."""
    targets, observed = source.targets[column.task], source.observed[column.task]
    if targets.ndim > 1:
        targets, observed = targets[:, column.index], observed[:, column.index]
    return np.where(observed.numpy(), targets.double().numpy(), np.nan)


def outputs_of_columns(task: Task, answers: Sequence[np.ndarray]) -> Tensor:
    """A task's outputs from the answers for its columns: ``[N]`` numbers, or ``[N, K]`` probabilities of classes."""
    # Numbers and quantiles are in standard units already, as outputs are.
    if any(column.what in ("number", "quantile") for column in task.plain_columns()):
        return torch.from_numpy(np.column_stack(answers).astype(np.float32))
    return task.outputs_from(task.answer_from(answers)).float()


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
