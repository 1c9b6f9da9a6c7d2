"""Answers of many rows: parts of them, and as plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from polytask.tasks.task import Prediction

__all__ = ["Answers", "as_json", "joined", "json_text", "part_of"]

Answers: TypeAlias = Mapping[str, Prediction]
"""By task, its answers for the same rows."""


def part_of(answers: Answers, tasks: Sequence[str], start: int, stop: int) -> dict[str, Prediction]:
    """The answers of some tasks for some rows."""
    found = {}
    for task in tasks:
        whole = answers[task]
        shares = None if whole.probabilities is None else whole.probabilities[start:stop]
        found[task] = Prediction(whole.values[start:stop], shares, whole.labels)
    return found


def joined(parts: Sequence[Answers]) -> dict[str, Prediction]:
    """Answers for rows that follow one another as one."""
    if len(parts) == 1:
        return dict(parts[0])
    found = {}
    for task, first in parts[0].items():
        values = np.concatenate([part[task].values for part in parts])
        shares = [p for part in parts if (p := part[task].probabilities) is not None]
        found[task] = Prediction(values, np.concatenate(shares) if shares else None, first.labels)
    return found


def as_json(answers: Answers, n_rows: int) -> list[dict[str, Any]]:
    """For each row and task, the value and the probabilities.

    Example:
        >>> as_json({"ill": Prediction(np.array(["no"]), np.array([[0.75, 0.25]]), ("no", "yes"))}, 1)
        [{'ill': {'value': 'no', 'probabilities': {'no': 0.75, 'yes': 0.25}}}]
    """
    rows: list[dict[str, Any]] = [{} for _ in range(n_rows)]
    for task, answer in answers.items():
        names = [str(label) for label in answer.labels]
        values = answer.values.tolist()
        if answer.values.ndim == 2 and names:
            values = [dict(zip(names, row, strict=True)) for row in values]
        shares = None if answer.probabilities is None else answer.probabilities.tolist()
        for i, row in enumerate(rows):
            row[task] = {"value": values[i]}
            if shares is not None:
                row[task]["probabilities"] = dict(zip(names, shares[i], strict=True))
    return rows


def json_text(data: Any) -> bytes:
    """JSON that every reader takes: no NaN, no lone surrogates; dates and the like as texts."""
    try:
        return json.dumps(data, allow_nan=False, default=str, separators=(",", ":")).encode("ascii")
    except ValueError:
        return json.dumps(_finite(data), allow_nan=False, default=str, separators=(",", ":")).encode("ascii")


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
