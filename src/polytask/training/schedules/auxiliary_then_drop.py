"""Auxiliary tasks that help at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polytask.errors import RecipeError
from polytask.training.schedule import Schedule, Stage, StageResult, check_names

__all__ = ["AuxiliaryThenDrop"]


@dataclass(frozen=True)
class AuxiliaryThenDrop(Schedule):
    """Trains all tasks together for a part of the epochs, then drops the auxiliary ones and trains the main ones alone.

    Args:
        main: Tasks that matter in the end.
        share: Share of the epochs with all tasks, in (0, 1).

    Raises:
        RecipeError: If the share is not in (0, 1), or no task is main.
        UnknownNameError: If a main task is not one of the recipe's.

    Example:
        >>> schedule, done = AuxiliaryThenDrop(main=["a"], share=0.7), []
        >>> while (stage := schedule.next_stage(["a", "b"], 10, 2, done)) is not None:
        ...     done.append(StageResult(stage))
        >>> [(result.stage.tasks, result.stage.epochs) for result in done]
        [(('a', 'b'), 7), (('a',), 3)]

    Note:
        The auxiliary tasks are answered in the end too, as well as the last network can. It costs as many epochs as
        ``joint``, two at least, and those after the first stage are of the main tasks alone.

    References:
        Ruder, "An Overview of Multi-Task Learning in Deep Neural Networks", arXiv:1706.05098, 2017, section 8
        (auxiliary tasks); Sanh et al., "A Hierarchical Multi-task Approach for Learning Embeddings from Semantic
        Tasks", AAAI 2019.
    """

    main: Sequence[str] = ()
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise RecipeError(f"Schedule 'auxiliary_then_drop' needs a share in (0, 1), got {self.share!r}.")

    def next_stage(self, tasks: Sequence[str], epochs: int, n_layers: int, done: Sequence[StageResult]) -> Stage | None:
        """All tasks, then the main ones."""
        main = check_names("schedule 'auxiliary_then_drop'", self.main, tasks)
        if not main:
            raise RecipeError(
                f"Schedule 'auxiliary_then_drop' needs main tasks: set schedule.main to some of {', '.join(tasks)}."
            )
        with_all = max(1, round(epochs * self.share))
        if not done:
            return Stage("all tasks", tuple(tasks), epochs=with_all)
        return Stage("main tasks", main, epochs=max(1, epochs - with_all)) if len(done) == 1 else None
