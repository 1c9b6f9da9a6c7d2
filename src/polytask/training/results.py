"""What a record says of a task, and of how long it was trained."""

from __future__ import annotations

from collections.abc import Mapping

from polytask.data.batch import ArraySource
from polytask.records import TaskResult, without_nan
from polytask.tasks.task import Task
from polytask.training.preparation import Prepared
from polytask.training.settings import Settings

__all__ = ["n_labels", "result_of", "step_notes"]

_FEW_STEPS = 2
"""An epoch of no more steps than these is noted."""


def result_of(
    task: Task,
    metrics: Mapping[str, Mapping[str, float]],
    prepared: Prepared | None,
    single: Mapping[str, float | None] | None = None,
    joint: Mapping[str, float | None] | None = None,
) -> TaskResult:
    """The result of a task, and how many labels it rests on.

    Args:
        task: The task.
        metrics: Metrics by task, on the test rows, or on the validation rows if there are none.
        prepared: The rows; ``None`` if nothing was trained.
        single: Metrics of a model of this task alone.
        joint: Metrics of a model that was trained on all tasks at once.
    """
    first = task.metrics[0]
    return TaskResult(
        kind=task.kind,
        metric=first.name,
        higher_is_better=first.higher_is_better,
        metrics=without_nan(metrics.get(task.name, {})),
        single=single,
        n_train=0 if prepared is None else n_labels(task, prepared.train),
        n_test=0 if prepared is None else n_labels(task, prepared.test or prepared.validation),
        joint=joint,
    )


def n_labels(task: Task, sources: Mapping[str, ArraySource]) -> int:
    """Observed labels of a task in all sources."""
    return sum(int(source.observed[task.name].sum()) for source in sources.values() if task.name in source.tasks)


def step_notes(steps: int, epochs: int, prepared: Prepared, settings: Settings) -> list[str]:
    """What to do where an epoch changes the parameters once or twice only, so that few updates are made in all.

    Args:
        steps: Of an epoch.
        epochs: That were trained.
        prepared: The rows.
        settings: The training's.
    """
    n_rows = sum(map(len, prepared.train.values()))
    smaller = next((size for size in (128, 64, 32, 16, 8, 4) if 8 * size <= n_rows), 4)
    if steps > _FEW_STEPS or smaller >= settings.batch_size:
        return []
    note = (
        f"An epoch is {steps} {'step' if steps == 1 else 'steps'} only ({n_rows} training rows, batch_size "
        f"{settings.batch_size}), so that the {epochs} epochs changed the parameters {epochs * steps} times: smaller "
        f"batches may learn more, such as --set training.batch_size={smaller}."
    )
    return [note]
