"""Every task after every stage, and what the stages left, for the page of a run."""

from __future__ import annotations

from typing import Any

from polytask.records import RunRecord

__all__ = ["sequence_view"]

KINDS = {
    "backward": "backward transfer: at the end minus after its own stage (below 0: forgotten)",
    "forgetting": "forgetting: best before the end minus at the end",
    "forward": "forward transfer: just before its own stage minus before all stages",
    "intransigence": "intransigence: all tasks trained at once minus after its own stage",
}


def sequence_view(record: RunRecord) -> dict[str, Any]:
    """The two tables of a run in stages.

    Args:
        record: A run that has a ``sequence``.
    """
    sequence = record.sequence
    if sequence is None:
        return {}
    stages = [("before", (), sequence.before), *((s.name, s.tasks, s.metrics) for s in sequence.stages)]
    return {
        "tasks": [
            (name, f"{result.metric} {'↑' if result.higher_is_better else '↓'}")
            for name, result in record.tasks.items()
        ],
        "stages": [
            {
                "name": name,
                "cells": [
                    {"value": found.get(task, {}).get(result.metric), "trained": task in trained}
                    for task, result in record.tasks.items()
                ],
            }
            for name, trained, found in stages
        ],
        "transfer": [
            {
                "words": words,
                "values": [getattr(sequence, kind).get(task) for task in record.tasks],
                "mean": sequence.means.get(kind),
            }
            for kind, words in KINDS.items()
            if any(value is not None for value in getattr(sequence, kind).values())
        ],
        "remedies": sequence.remedies,
        "schedule": sequence.schedule,
    }
