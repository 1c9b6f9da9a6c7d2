"""What a record says of one task."""

from __future__ import annotations

from collections.abc import Mapping

from polytask.data.batch import ArraySource
from polytask.records import TaskResult, without_nan
from polytask.tasks.task import Task
from polytask.training.preparation import Prepared

__all__ = ["n_labels", "result_of"]


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
