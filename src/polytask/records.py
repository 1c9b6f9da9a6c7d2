"""Records: what a run found, as plain data that any page or program can read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from polytask.errors import DataError

__all__ = ["RunRecord", "TaskResult", "without_nan"]

SCHEMA = 1


@dataclass(frozen=True)
class TaskResult:
    """How well one task was learned, on rows that no training saw.

    Args:
        kind: The task's kind.
        metric: Name of the metric that counts.
        higher_is_better: Its direction.
        metrics: Every metric by name; ``None`` where it is not defined.
        single: The same of a model of this task alone, with the same budget; ``None`` if none was trained.
        n_train: Observed training labels.
        n_test: Observed test labels.
    """

    kind: str
    metric: str
    higher_is_better: bool
    metrics: Mapping[str, float | None]
    single: Mapping[str, float | None] | None = None
    n_train: int = 0
    n_test: int = 0


@dataclass(frozen=True)
class RunRecord:
    """What a run was and what it found.

    Args:
        tasks: Result of each task.
        recipe: The recipe's plain data.
        recipe_hash: Its hash.
        data: Per source, where it came from, its rows, its columns and a hash.
        epochs: Epochs trained.
        best_epoch: The epoch whose parameters were kept, counted from 0.
        seconds: Time of the training.
        parameters: Counts ``shared``, ``private`` and ``heads``.
        sampling: An epoch in words.
        notes: What a reader should know: columns left out, labels dropped, fallbacks.
        environment: Versions.
        schema: Version of this form.
    """

    tasks: Mapping[str, TaskResult]
    recipe: Mapping[str, Any]
    recipe_hash: str
    data: Mapping[str, Mapping[str, Any]]
    epochs: int
    best_epoch: int | None
    seconds: float
    parameters: Mapping[str, int]
    sampling: str = ""
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        plain: dict[str, Any] = without_nan(asdict(self))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunRecord:
        """Take back what :meth:`to_json` gave.

        Raises:
            DataError: If the record is of a newer form.
        """
        if data.get("schema", 0) > SCHEMA:
            raise DataError(
                f"This record has schema {data['schema']}, this polytask reads up to {SCHEMA}: upgrade polytask."
            )
        tasks = {name: TaskResult(**result) for name, result in data["tasks"].items()}
        return cls(**{**data, "tasks": tasks, "notes": tuple(data["notes"])})

    @classmethod
    def load(cls, path: str | Path) -> RunRecord:
        """Read a ``record.json``."""
        return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))


def without_nan(value: Any) -> Any:
    """The same data with ``None`` for NaN and infinity, for which JSON has no form.

    Example:
        >>> without_nan({"a": [1.0, float("nan")], "b": ("x",)})
        {'a': [1.0, None], 'b': ['x']}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value
