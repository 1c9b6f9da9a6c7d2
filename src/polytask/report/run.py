"""What the page of a single training shows, worked out from its record."""

from __future__ import annotations

from typing import Any

from polytask.records import RunRecord, TaskResult
from polytask.report import training_figures
from polytask.report.gallery import Gallery
from polytask.report.provenance import flat
from polytask.report.sequence import sequence_view
from polytask.report.words import finite, listed

__all__ = ["run_view", "which_is_better"]


def run_view(record: RunRecord) -> dict[str, Any]:
    """Everything that the template of a run's page needs.

    Args:
        record: The run.
    """
    rows = [
        {
            "task": task,
            "result": result,
            "arrow": "↑" if result.higher_is_better else "↓",
            "joint": result.metrics.get(result.metric),
            "at_once": (result.joint or {}).get(result.metric),
            "single": (result.single or {}).get(result.metric),
            "better": which_is_better(result),
            "others": [
                (name, value, (result.single or {}).get(name))
                for name, value in result.metrics.items()
                if name != result.metric
            ],
        }
        for task, result in record.tasks.items()
    ]
    gallery = Gallery()
    gallery.add("constraints", training_figures.multipliers(record.constraints))
    for name, constraint in record.constraints.items():
        gallery.add("constraints", training_figures.constraint(name, constraint))
    return {
        "record": record,
        "gallery": gallery,
        "headline": _headline(record),
        "rows": rows,
        "compared": any(result.single is not None for result in record.tasks.values()),
        "beside": any(result.joint is not None for result in record.tasks.values()),
        "sequence": None if record.sequence is None else sequence_view(record),
        "extension": record.extension,
        "numbers": {task: index for index, task in enumerate(record.tasks)},
        "filter_tasks": [{"name": task, "verdict": ""} for task in record.tasks],
        "provenance": {
            **{f"Source {name}": flat(found) for name, found in record.data.items()},
            "Recipe": {"hash": record.recipe_hash, **flat(record.recipe)},
            "Environment": flat(record.environment),
        },
    }


def which_is_better(result: TaskResult) -> str:
    """``joint``, ``single``, or nothing where they are equal or one is missing."""
    joint = finite(result.metrics.get(result.metric))
    single = finite((result.single or {}).get(result.metric))
    if joint is None or single is None or joint == single:
        return ""
    return "joint" if (joint > single) == result.higher_is_better else "single"


def _headline(record: RunRecord) -> str:
    n = len(record.tasks)
    compared = [task for task, result in record.tasks.items() if result.single is not None]
    if not compared and record.extension is not None:
        return f"{listed(list(record.tasks))} {'was' if n == 1 else 'were'} added to a trained model."
    if not compared and record.sequence is not None:
        stages = len(record.sequence.stages)
        return f"{n} task{'s' if n > 1 else ''} learned in {stages} stage{'s' if stages > 1 else ''}."
    if not compared:
        return f"One model for {n} tasks." if n > 1 else f"A model for {next(iter(record.tasks), 'no task')}."
    ahead = [task for task in compared if which_is_better(record.tasks[task]) == "joint"]
    names = f" ({listed(ahead)})" if ahead else ""
    return (
        f"The {_model(record)} was ahead of one model a task on {len(ahead)} of {len(compared)} tasks{names}, "
        "on one split."
    )


def _model(record: RunRecord) -> str:
    """What the run's model is called: joint only if its tasks were learned at once."""
    return "joint model" if record.sequence is None else f"model learned in stages, {record.sequence.schedule},"
