"""What a recipe says about how single tasks are trained beside the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from pydantic import ValidationError

from polytask.errors import RecipeError
from polytask.options import adapter_of, in_words

__all__ = ["CONTROLS", "TaskControl", "task_control"]


@dataclass(frozen=True)
class TaskControl:
    """Settings of one task in a joint training.

    Args:
        learning_rate: Of the task's head and of what else only this task reaches; the training's if ``None``.
        schedule: The same for the schedule of the learning rate: ``constant``, ``cosine``, or ``plateau``, which
            follows this task's validation loss, with its ``patience`` or else the training's.
        warmup: Share of all steps over which the weight of the task's loss rises from zero.
        patience: Stop the task after this many epochs without a better validation loss of it: its head and what else
            is its own freeze, its loss no longer counts, the others go on, and its answers are those of its best epoch.
            With several stages that is the best one of the last stage; a note says so of a task that is not in it.
        only_where: The task is only defined where other columns have certain values: ``{ill: yes}``, or one of several,
            ``{stage: [2, 3]}``. Elsewhere its labels count as missing.
        row_weights: Column of factors on this task's losses, beside those of the source.
        ranked_by: Column of groups, such as users, within which the task is also judged by how it ranks rows: metrics
            ``group_auroc`` (binary) and ``ndcg_10``.
    """

    learning_rate: float | None = None
    schedule: Literal["constant", "cosine", "plateau"] | None = None
    warmup: float = 0.0
    patience: int | None = None
    only_where: Mapping[str, Any] = field(default_factory=dict)
    row_weights: str | None = None
    ranked_by: str | None = None

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise RecipeError(f"learning_rate must be a number above 0, got {self.learning_rate!r}.")
        if not 0.0 <= self.warmup < 1.0:
            raise RecipeError(f"warmup is a share of the steps in [0, 1), got {self.warmup!r}.")
        if self.patience is not None and self.patience < 1:
            raise RecipeError(f"patience must be at least 1, got {self.patience!r}.")


CONTROLS = tuple(f.name for f in fields(TaskControl))
"""Keys of a task in a recipe that are not options of its kind."""


def task_control(name: str, options: Mapping[str, Any]) -> TaskControl:
    """What the options of a task in a recipe say about its training.

    Raises:
        RecipeError: If a value is of the wrong type or out of range; names the task.

    Example:
        >>> task_control("price", {"kind": "regression", "patience": 5}).patience
        5
    """
    try:
        return adapter_of(TaskControl).validate_python({k: v for k, v in options.items() if k in CONTROLS})
    except ValidationError as error:
        raise RecipeError(f"Task {name!r}: {in_words(error)}") from None
