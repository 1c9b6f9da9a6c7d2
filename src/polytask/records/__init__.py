"""Records: what a run or a study found, as plain data that any page or program can read."""

from __future__ import annotations

from polytask.records.forms import SCHEMA, load_form, read_form, without_nan
from polytask.records.run import (
    ConstraintResult,
    ExtensionRecord,
    RunRecord,
    SequenceResult,
    StageRecord,
    TaskResult,
)
from polytask.records.study import (
    ArmResult,
    Interval,
    Recommendation,
    StudyFold,
    StudyRecord,
    StudyTask,
    Verdict,
)

__all__ = [
    "SCHEMA",
    "ArmResult",
    "ConstraintResult",
    "ExtensionRecord",
    "Interval",
    "Recommendation",
    "RunRecord",
    "SequenceResult",
    "StageRecord",
    "StudyFold",
    "StudyRecord",
    "StudyTask",
    "TaskResult",
    "Verdict",
    "load_form",
    "read_form",
    "without_nan",
]
