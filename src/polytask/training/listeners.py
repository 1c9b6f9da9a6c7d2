"""Who is told about a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polytask.data.batch import Batch
from polytask.training.progress import Progress, Silent
from polytask.training.run_folder import RunFolder

if TYPE_CHECKING:
    from polytask.training.loop import Training

__all__ = ["Listeners", "Watch"]

Watch = Callable[["Training", Sequence[Batch]], None]
"""Called before each step with the training and the step's batches; it may look, and change nothing."""


@dataclass
class Listeners:
    """Who is told about a training.

    Args:
        folder: Where history and checkpoints go; nothing is written if ``None``.
        progress: Told about each step.
        watch: Called before each step with the training and the step's batches; it may look, and change nothing.
    """

    folder: RunFolder | None = None
    progress: Progress = field(default_factory=Silent)
    watch: Watch | None = None
