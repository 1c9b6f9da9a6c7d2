"""What the page that compares several records shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from polytask.records import Interval, RunRecord, StudyRecord
from polytask.report.provenance import differences
from polytask.report.run import which_is_better
from polytask.report.strips import scale_of
from polytask.report.study import MARKS, headline
from polytask.report.words import duration, finite, possible

__all__ = ["comparison_view"]

Record = StudyRecord | RunRecord


def comparison_view(records: Sequence[Record], names: Sequence[str] | None = None) -> dict[str, Any]:
    """Everything that the template of a comparison needs.

    Args:
        records: Studies and runs.
        names: What to call them; ``A``, ``B`` ... if left out.
    """
    called = list(names) if names is not None else [_letter(index) for index in range(len(records))]
    tasks = list(dict.fromkeys(task for record in records for task in record.tasks))
    shared = [task for task in tasks if all(task in record.tasks for record in records)]
    gains = [
        (v.gain, v.interval[0], possible(v.interval[1]))
        for record in records
        if isinstance(record, StudyRecord)
        for v in record.verdicts.values()
    ]
    scale = scale_of(gains)
    apart, same = differences([_provenance(record) for record in records])
    return {
        "names": called,
        "headline": f"{len(records)} records side by side, {len(shared)} of {len(tasks)} tasks in all of them.",
        "summaries": [_summary(name, record) for name, record in zip(called, records, strict=True)],
        "rows": [{"task": task, "cells": [_cell(record, task, scale) for record in records]} for task in tasks],
        "limit": scale.limit if gains else None,
        "numbers": {task: index for index, task in enumerate(tasks)},
        "filter_tasks": [{"name": task, "verdict": ""} for task in tasks],
        "apart": apart,
        "same": same,
        "other_data": len({_data_hash(record) for record in records}) > 1,
    }


def _letter(index: int) -> str:
    return ascii_uppercase[index] if index < len(ascii_uppercase) else f"record {index + 1}"


def _summary(name: str, record: Record) -> dict[str, str]:
    is_study = isinstance(record, StudyRecord)
    words = headline(record) if isinstance(record, StudyRecord) else f"One training of {len(record.tasks)} tasks."
    return {
        "name": name,
        "form": "study" if is_study else "run",
        "words": words,
        "seconds": duration(record.seconds),
        "made": record.made if isinstance(record, StudyRecord) else str(record.environment.get("made", "")),
    }


def _cell(record: Record, task: str, scale: Any) -> dict[str, Any] | None:
    """What a record says of a task; ``None`` if it does not know it."""
    if task not in record.tasks:
        return None
    if isinstance(record, RunRecord):
        result = record.tasks[task]
        value = Interval(finite(result.metrics.get(result.metric)))
        single = finite((result.single or {}).get(result.metric))
        return {
            "verdict": "", "mark": "", "strip": "", "gain": None, "low": None, "high": None, "use": "", "error": None,
            "metric": result.metric, "arrow": _arrow(result.higher_is_better), "value": value, "single": single,
            "better": which_is_better(result),
        }  # fmt: skip
    about, verdict = record.tasks[task], record.verdicts.get(task)
    use = record.recommendation.arms.get(task, "")
    arm = record.arms.get(use)
    metrics: Mapping[str, Interval] = arm.metrics.get(task, {}) if arm else {}
    low, high = (verdict.interval[0], possible(verdict.interval[1])) if verdict else (None, None)
    gain = verdict.gain if verdict else None
    return {
        "verdict": verdict.verdict if verdict else "", "mark": MARKS.get(verdict.verdict, "○") if verdict else "",
        "gain": gain, "low": low, "high": high, "use": use, "error": record.recommendation.error.get(task),
        "strip": scale.strip(gain, low, high, verdict.verdict.replace(" ", "-")) if verdict else "",
        "metric": about.metric, "arrow": _arrow(about.higher_is_better), "value": metrics.get(about.metric),
        "single": None, "better": "",
    }  # fmt: skip


def _arrow(higher_is_better: bool) -> str:
    return "↑" if higher_is_better else "↓"


def _provenance(record: Record) -> dict[str, Any]:
    if isinstance(record, StudyRecord):
        asked: dict[str, Any] = {"settings": record.settings, "arms": list(record.arms)}
    else:
        asked = {"recipe": record.recipe, "recipe hash": record.recipe_hash}
    return {"data": record.data, **asked, "environment": record.environment}


def _data_hash(record: Record) -> str:
    """The data's hash or hashes, in one text that is equal for equal data."""
    sources = [record.data] if isinstance(record, StudyRecord) else list(record.data.values())
    return " ".join(sorted(str(source.get("sha256", source.get("hash", ""))) for source in sources))
