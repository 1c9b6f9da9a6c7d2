"""All tasks at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polytask.training.schedule import Schedule, Stage, StageResult

__all__ = ["Joint"]


@dataclass(frozen=True)
class Joint(Schedule):
    """Trains all tasks together in one stage: the default, and what the other schedules are measured against.

    Example:
        >>> Joint().next_stage(["a", "b"], 10, 2, []).tasks
        ('a', 'b')

    Note:
        It costs one training, a stage with one optimiser. It has no order of the tasks; what each weighs in a step is
        decided by the balancer.

    References:
        Caruana, "Multitask Learning", Machine Learning 28, 1997.
    """

    def next_stage(self, tasks: Sequence[str], epochs: int, n_layers: int, done: Sequence[StageResult]) -> Stage | None:
        """One stage, with all tasks."""
        return None if done else Stage("", tuple(tasks))
