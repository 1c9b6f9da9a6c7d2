"""What a record says of a task, and of how long it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polytask.data.batch import ArraySource
from polytask.records import TaskResult, without_nan
from polytask.tasks.task import Task
from polytask.training.preparation import Prepared
from polytask.training.schedule import StageResult
from polytask.training.settings import Settings
from polytask.wording import counted

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


def step_notes(stages: Sequence[StageResult], settings: Settings) -> list[str]:
    """What to do where an epoch changes the parameters once or twice only, so that few updates are made in all.

    Args:
        stages: Results of all stages; those of as many rows and steps are noted together.
        settings: The training's.
    """
    alike: dict[tuple[int, int], list[StageResult]] = {}
    for stage in stages:
        if not stage.n_rows:
            continue  # done by a version that did not count its rows and steps
        alike.setdefault((stage.steps_per_epoch, stage.n_rows), []).append(stage)
    return [note for (n_steps, _), group in alike.items() if n_steps <= _FEW_STEPS for note in _few(group, settings)]


def _few(stages: Sequence[StageResult], settings: Settings) -> list[str]:
    """A note about stages of as many rows and steps, if smaller batches can be advised."""
    n_rows, names = stages[0].n_rows, [repr(result.stage.name) for result in stages if result.stage.name]
    smaller = next((size for size in (128, 64, 32, 16, 8, 4) if 8 * size <= n_rows), 4)
    if smaller >= settings.batch_size:
        return []
    epochs, steps = sum(result.epochs for result in stages), sum(result.steps for result in stages)
    where = f" of {'stage' if len(names) == 1 else 'the stages'} {', '.join(names)}" if names else ""
    note = (
        f"An epoch{where} is {counted(stages[0].steps_per_epoch, 'step')} only ({counted(n_rows, 'training row')}, "
        f"batch_size {settings.batch_size}), so that the {counted(epochs, 'epoch')} changed the parameters "
        f"{counted(steps, 'time')}: smaller batches may learn more, such as --set training.batch_size={smaller}."
    )
    return [note]
