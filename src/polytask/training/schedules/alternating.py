"""The tasks in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polytask.errors import RecipeError
from polytask.training.schedule import Schedule, Stage, StageResult, check_names

__all__ = ["Alternating"]


@dataclass(frozen=True)
class Alternating(Schedule):
    r"""Trains the tasks in turn, several rounds long, each for a part of its epochs.

    With :math:`E` epochs and :math:`R` rounds, a turn has :math:`\max(1, \lfloor E / R \rfloor)` epochs, so that a task
    has as many as with ``joint``.

    Args:
        rounds: :math:`R`, how often each task has its turn.
        order: Names of the tasks in order; the recipe's order if empty.

    Raises:
        RecipeError: If there is no round.
        UnknownNameError: If the order names no task of the recipe.

    Example:
        >>> schedule, done = Alternating(rounds=2), []
        >>> while (stage := schedule.next_stage(["a", "b"], 10, 2, done)) is not None:
        ...     done.append(StageResult(stage))
        >>> [(result.stage.name, result.stage.epochs) for result in done]
        [('a (round 1)', 5), ('b (round 1)', 5), ('a (round 2)', 5), ('b (round 2)', 5)]

    Note:
        Every turn has its own optimiser; with as many rounds as epochs it is renewed after each epoch. Early stopping
        counts within a turn. With :math:`R \le E` it costs at most :math:`T E` epochs of one of :math:`T` tasks each,
        where ``joint`` has :math:`E` of all tasks.

    References:
        Dong et al., "Multi-Task Learning for Multiple Language Translation", ACL 2015, section 3.3 (the tasks in turn,
        here in stages instead of batches).
    """

    rounds: int = 4
    order: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise RecipeError(f"Schedule 'alternating' needs at least 1 round, got {self.rounds}.")

    def next_stage(self, tasks: Sequence[str], epochs: int, n_layers: int, done: Sequence[StageResult]) -> Stage | None:
        """The turn after the last one."""
        order = check_names("the order of schedule 'alternating'", self.order or tasks, tasks)
        rounds, place = divmod(len(done), len(order))
        if rounds == self.rounds:
            return None
        return Stage(f"{order[place]} (round {rounds + 1})", (order[place],), epochs=max(1, epochs // self.rounds))
