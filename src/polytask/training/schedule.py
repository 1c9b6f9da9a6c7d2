"""The contract of a schedule: which tasks are trained when, and which part of the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polytask.errors import RecipeError, UnknownNameError

__all__ = ["Schedule", "Stage", "StageResult", "as_names", "check_names"]


@dataclass(frozen=True)
class Stage:
    """One training among several over the same network.

    Args:
        name: What it is called in the record; empty for a training that is the only one.
        tasks: The tasks that are trained.
        epochs: At most this many; the settings' own number if ``None``.
        depth: How many layers below the heads are trained, counted from the top; ``None`` for all of them, 0 for the
            heads alone.
        decay: Factor on the learning rate from each layer to the one below it, in (0, 1].
        rate: Factor on the learning rate of all of them.

    Raises:
        RecipeError: If there is no task, or a number is out of range.
    """

    name: str
    tasks: tuple[str, ...]
    epochs: int | None = None
    depth: int | None = None
    decay: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        who = f"Stage {self.name!r}"
        if not self.tasks:
            raise RecipeError(f"{who} trains no task; it needs at least one.")
        if self.epochs is not None and self.epochs < 1:
            raise RecipeError(f"{who} needs at least 1 epoch, got {self.epochs}.")
        if self.depth is not None and self.depth < 0:
            raise RecipeError(f"{who} trains a number of layers of at least 0, got {self.depth}.")
        if not 0 < self.decay <= 1:
            raise RecipeError(f"{who}: decay is a factor in (0, 1] from layer to layer, got {self.decay!r}.")
        if not self.rate > 0:
            raise RecipeError(f"{who}: rate is a factor above 0 on the learning rate, got {self.rate!r}.")


@dataclass(frozen=True)
class StageResult:
    """How the tasks stood after a stage.

    Args:
        stage: The stage.
        losses: Validation loss of every task over that of its constant prediction; tasks without labels are left out.
        metrics: Every metric of every task on the held-out rows.
        epochs: Epochs trained.
        best: The epoch that was kept.
        seconds: Time of the training.
        skipped: Per task, the batches that it was left out of because its loss was no number.
        steps: Updates of the parameters.
        steps_per_epoch: Those of a whole epoch.
        n_rows: Training rows of its tasks.
    """

    stage: Stage
    losses: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    epochs: int = 0
    best: int | None = None
    seconds: float = 0.0
    skipped: Mapping[str, int] = field(default_factory=dict)
    steps: int = 0
    steps_per_epoch: int = 0
    n_rows: int = 0


class Schedule(ABC):
    """Divides a training into stages over the same tasks.

    A subclass gives one stage after another. It keeps no state: what comes next depends on its options and on what the
    stages so far left, so that an interrupted run goes on with the very stage that would have come.
    """

    @abstractmethod
    def next_stage(self, tasks: Sequence[str], epochs: int, n_layers: int, done: Sequence[StageResult]) -> Stage | None:
        """The stage after those that are done; ``None`` if all are.

        Args:
            tasks: All tasks, in the recipe's order.
            epochs: Epochs that the settings allow a training.
            n_layers: Layers below the heads.
            done: The stages so far, in order.

        Raises:
            RecipeError: If an option names no task, or the results lack what the schedule goes by.
        """

    def never_trains(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Tasks that no stage trains, whatever the stages leave; by default those that an `order` leaves out."""
        order = getattr(self, "order", ())
        if isinstance(order, str) and order not in tasks:
            return ()  # no task but a way to find the order, such as "random"
        order = as_names("the order of the schedule", order)
        return tuple(task for task in tasks if task not in order) if order else ()


def as_names(who: str, named: str | Sequence[str]) -> list[str]:
    """Names of tasks as a list; one name alone is one task.

    Raises:
        RecipeError: If it is neither a name nor a list of names.
    """
    given = [named] if isinstance(named, str) else named
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise RecipeError(f"{who[:1].upper()}{who[1:]} needs names of tasks, as in [price, sold]; got {named!r}.")
    return list(given)


def check_names(who: str, named: str | Sequence[str], tasks: Sequence[str]) -> tuple[str, ...]:
    """The named tasks as a tuple.

    Raises:
        UnknownNameError: If there is no such task.
        RecipeError: If one is named twice, or these are no names.
    """
    named = as_names(who, named)
    for name in named:
        if name not in tasks:
            raise UnknownNameError("task", name, tasks, who)
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise RecipeError(f"{who[:1].upper()}{who[1:]} names {', '.join(twice)} twice; once is enough.")
    return tuple(named)
