"""On what terms an arm may search inside a fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polytask.errors import RecipeError

__all__ = ["OBJECTIVES", "SEARCHED", "Terms"]

OBJECTIVES = ("mean", "tasks")
"""One score, the mean relative error over the tasks; or the error of each task, for a front of trade-offs."""

SEARCHED = ("searched", "tuned_weights")
"""The arms that ``--search`` adds: what the search finds, and the rival that it has to beat."""


@dataclass(frozen=True)
class Terms:
    """What a search inside a fold may cost, and what it is told.

    Args:
        trials: Trainings of each search.
        objective: A name of :data:`OBJECTIVES`.
        seconds: A search begins no training after so many seconds of training; ``None`` for no limit.
        folder: Where searches keep what they have tried, so that they can be gone on with; ``None`` for nowhere.
        given: Per arm, what it found on the first fold, for a study without the time to search on each.
        groups: By source, the group of each training row, if rows are kept together.
        times: By source, the time of each training row, if rows are divided by time.
        tell: Told in words how far a search is.

    Raises:
        RecipeError: If there is no such objective, or not a trial.
    """

    trials: int = 50
    objective: str = "mean"
    seconds: float | None = None
    folder: Path | None = None
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    groups: Mapping[str, np.ndarray] | None = None
    times: Mapping[str, np.ndarray] | None = None
    tell: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise RecipeError(f"The objective of a search is one of {', '.join(OBJECTIVES)}; got {self.objective!r}.")
        if self.trials < 1:
            raise RecipeError(f"A search needs at least one trial, got {self.trials}.")
