"""Warnings and notes of a study's record, in one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

__all__ = ["warning"]


def warning(
    kind: str,
    severity: Literal["warning", "note"],
    words: str,
    task: str | None = None,
    columns: Sequence[str] = (),
) -> dict[str, Any]:
    """Something that a reader of the study should know.

    Args:
        kind: What it is about, such as ``duplicates``.
        severity: Whether the results may be wrong because of it, or are only explained by it.
        words: What it is, and what to do.
        task: The task that it is about; all of them if ``None``.
        columns: The columns that it is about.
    """
    return {"kind": kind, "severity": severity, "task": task, "columns": list(columns), "words": words}
