"""Where a training is."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Position"]


@dataclass
class Position:
    """Where a training is; plain numbers, part of the checkpoint.

    Args:
        epoch: Epochs done.
        step: Steps done.
        seconds: Time so far.
        best: The epoch that is kept for now, from 0.
        validation: Validation loss of each task, by epoch.
        violations: How much the constraints were violated in all, by epoch; empty if there are none.
        unexplained: Lowest mean of the tasks' losses so far, relative to constant predictions; at most 1.
        history_lines: Lines of the history that were written.
        is_done: Whether the training is over.
        why: Why it is.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: int | None = None
    validation: list[dict[str, float]] = field(default_factory=list)
    violations: list[float] = field(default_factory=list)
    unexplained: float = 1.0
    history_lines: int = 0
    is_done: bool = False
    why: str = ""

    @property
    def since_best(self) -> int:
        """Epochs done after the best one; 0 if none is kept."""
        return 0 if self.best is None else self.epoch - 1 - self.best

    def end(self, why: str) -> None:
        """The training is over, unless it was already, for another reason."""
        if not self.is_done:
            self.is_done, self.why = True, why
