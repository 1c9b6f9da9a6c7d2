"""The models that a study leaves: what was chosen, learned once more from all rows, in one bundle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from polytask.bundle import Bundle, BundledModel
from polytask.data.transform import TableTransform
from polytask.study.arm import PLAIN, FittedArm, FoldData
from polytask.study.bench import LastTraining
from polytask.study.engine import Engine
from polytask.study.scores import Candidate
from polytask.study.store import Trial
from polytask.study.warning import warning
from polytask.training.task_control import TaskControl

__all__ = ["final_bundle", "lost_stops", "settle"]


def settle(trials: Sequence[Trial]) -> dict[str, Any]:
    """What the folds settled: the most frequent of choices, the median of everything else.

    A configuration is one thing and not a mean of several: that of the fold where it scored best, with all it settled.

    Example:
        >>> found = settle([Trial("a", settled={"choice x": 2, "epochs": e}) for e in (10, 12, 30)])
        >>> found["choice x"], found["epochs"]
        (2.0, 12.0)
    """
    if whole := [trial.settled for trial in trials if "configuration" in trial.settled]:
        return min(whole, key=lambda settled: settled["score"])
    values: dict[str, list[float]] = {}
    for trial in trials:
        for key, value in trial.settled.items():
            values.setdefault(key, []).append(value)
    return {
        key: float(Counter(sorted(found)).most_common(1)[0][0]) if key.startswith("choice") else float(np.median(found))
        for key, found in values.items()
    }


def lost_stops(controls: Mapping[str, TaskControl]) -> list[dict[str, Any]]:
    """What the last training cannot do: without validation rows no task has a best epoch of its own.

    Example:
        >>> lost_stops({"price": TaskControl(warmup=0.1)})
        []
    """
    patient = [name for name, control in controls.items() if control.patience is not None]
    if not patient:
        return []
    words = (
        f"On the folds, {', '.join(patient)} (with a patience of their own) are answered by the networks of their own "
        "best epochs. The model that the study leaves has no validation rows to find these by: where one network "
        "learns several tasks, it answers them after the epochs that the folds settled for the others."
    )
    return [warning("own stops", "note", words)]


def final_bundle(
    whole: FoldData,
    chosen: Mapping[str, Candidate],
    trials: Mapping[str, Sequence[Trial]],
    provenance: Mapping[str, Any],
    engine: Engine,
    tell: Callable[[int, int], None],
) -> Bundle:
    """Train the chosen arms on all rows, as long as the folds settled, and put them into one bundle.

    Args:
        whole: All rows.
        chosen: The arms of each task.
        trials: Finished trials of each arm.
        provenance: Stored in the bundle.
        engine: Trains the arms, several at once if it has the workers.
        tell: Told how many arms are trained, and of how many.
    """
    present = {task.name for task in whole.tasks}
    served: dict[str, list[str]] = {}
    for task, candidate in chosen.items():
        for arm in candidate:
            if task in present:
                served.setdefault(arm, []).append(task)
    # The constant has nothing to settle, and is chosen from also where it is no arm of the study.
    wanted = [LastTraining(name, tuple(tasks), settle(trials.get(name, ()))) for name, tasks in served.items()]
    fitted: dict[str, FittedArm] = {}
    tell(0, len(wanted))
    for work, found in engine.carry_out(iter(wanted)):
        assert isinstance(work, LastTraining)
        assert isinstance(found, FittedArm)
        fitted[work.arm] = found
        tell(len(fitted), len(wanted))
    models: list[BundledModel] = []
    positions: dict[tuple[str, str], int] = {}
    for name, tasks in served.items():
        for model in fitted[name].models:
            mine = [task for task in model.tasks if task in tasks]
            if mine:
                positions |= {(name, task): len(models) for task in mine}
                models.append(model)
    answers = {
        task: [positions[arm, task] for arm in candidate if (arm, task) in positions]
        for task, candidate in chosen.items()
        if task in present
    }
    kept = [task for task in whole.tasks if answers.get(task.name)]
    transforms: dict[str, TableTransform] = dict(whole.prepared.transforms)
    transforms |= {f"{source} ({PLAIN})": transform for source, transform in whole.plain_transforms.items()}
    prepared = whole.prepared
    return Bundle(kept, models, transforms, {}, provenance, answers, prepared.texts, prepared.files)
