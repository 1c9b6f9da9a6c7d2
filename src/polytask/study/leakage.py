"""Signs that a study would fool itself, looked for before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.data.checks import check_targets
from polytask.tasks.task import Task
from polytask.training.preparation import DataSet, TableData

__all__ = ["leak_warnings"]


def leak_warnings(data: DataSet, tasks: Sequence[Task], group: str | None = None) -> list[dict[str, Any]]:
    """Look for leaks.

    Raises:
        InputError: If an input is certainly a copy of a target.
    """
    if not isinstance(data, TableData):
        return []
    check_targets(data.table, tasks, data.inputs)
    return []
