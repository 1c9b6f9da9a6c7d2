"""Which kind of task a target column asks for, with the reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from polytask.errors import TargetError
from polytask.tasks._labels import Label, column, distinct, shown
from polytask.tasks.task import Task, task_from_options

__all__ = ["explain_kind", "infer_kind", "make_tasks"]

_PROBED = 1000
"""So many labels are looked at to see whether they are sequences."""
_FEW = 10
"""Most different whole numbers that are taken for class codes."""


def infer_kind(labels: Any, name: str) -> str:
    """The kind of task that a target column asks for.

    The rules, in order, on the labels that are not missing:

    1. lists of labels: ``tagging``;
    2. an ordered categorical column: ``ordinal``;
    3. two different values of any type: ``binary``;
    4. text or an unordered categorical column: ``multiclass``;
    5. whole numbers (also as floats, as a column with missing labels has them) with 3 to 10 different values:
       ``multiclass``;
    6. any other numbers: ``regression``.

    ``count``, ``quantile``, ``survival`` and ``multilabel`` are never guessed: what makes them right is what the
    numbers are for.

    Args:
        labels: One column: an array, a list or a pandas series (whose categories are looked at).
        name: The column's name, for messages.

    Raises:
        TargetError: If all labels are missing or equal, or are nearly all different text: names or identifiers.

    Example:
        >>> infer_kind([0, 1, 1, None], "ill")
        'binary'
        >>> infer_kind(["red", "green", "blue"], "colour")
        'multiclass'
        >>> infer_kind([1.5, 2.5, 3.0], "price")
        'regression'
    """
    return explain_kind(labels, name)[0]


def explain_kind(labels: Any, name: str) -> tuple[str, str]:
    """The kind as of :func:`infer_kind`, and why.

    Raises:
        TargetError: As :func:`infer_kind` does.

    Example:
        >>> explain_kind(["low", "high", "low"], "risk")
        ('binary', "two different values: 'high', 'low'")
    """
    levels = _ordered_levels(labels)
    who = f"Target {name!r}"
    if any(isinstance(label, list | tuple) for label in np.asarray(labels, dtype=object).ravel()[:_PROBED]):
        return "tagging", "sequences of labels"
    codes, values = distinct(who, column(who, labels))
    n_observed = int((codes >= 0).sum())
    if len(values) < 2:
        found = f"only one value, {values[0]!r}" if values else "no label: all are missing"
        raise TargetError(f"{who} has {found}. There is nothing to learn; leave it out of the targets.")
    if levels and len(levels) > 2:
        return "ordinal", f"ordered categories: {shown(levels, 5)}"
    if len(values) == 2:
        return "binary", f"two different values: {shown(sorted(values, key=str))}"
    if any(isinstance(value, str) for value in values):
        return _text(who, labels, values, n_observed)
    if _is_categorical(labels):
        return "multiclass", f"{len(values)} categories"
    if any(float(value) != np.floor(float(value)) for value in values):
        return "regression", f"numbers with fractions, {len(values)} different values"
    if len(values) <= _FEW:
        why = f"whole numbers with {len(values)} different values, at most {_FEW}"
        is_count = min(float(value) for value in values) >= 0
        return "multiclass", f"{why}; if they count something, say {name}:count" if is_count else why
    return "regression", f"whole numbers with {len(values)} different values, more than {_FEW}"


def make_tasks(
    columns: Mapping[str, Any], overrides: Mapping[str, str | Mapping[str, Any]] | None = None
) -> tuple[list[Task], dict[str, str]]:
    """A task for each target column, and the reason for each one's kind.

    Args:
        columns: Labels by column name; anything that maps names to columns, a data frame of the targets included.
        overrides: By column, the kind, or options of the task (``kind`` among them or inferred).

    Returns:
        The tasks, not fitted, in the order of the columns; and by task name the reason.

    Raises:
        TargetError: If a column cannot be a target.
        RecipeError: If an override is for no column, or has an unknown kind or option.

    Example:
        >>> tasks, reasons = make_tasks({"ill": [0, 1], "visits": [0, 3, 1]}, {"visits": "count"})
        >>> [task.kind for task in tasks], reasons["visits"]
        (['binary', 'count'], 'as asked')
    """
    chosen = dict(overrides or {})
    unknown = [name for name in chosen if name not in columns]
    if unknown:
        raise TargetError(f"There is no target {unknown[0]!r} to override. Known: {shown(list(columns))}.")
    tasks, reasons = [], {}
    for name in columns:
        override = chosen.get(name, {})
        options: dict[str, Any] = {"kind": override} if isinstance(override, str) else dict(override)
        reason = "as asked"
        if "kind" not in options:
            options["kind"], reason = explain_kind(columns[name], str(name))
        if options["kind"] == "ordinal" and not options.get("order"):
            options["order"] = _ordered_levels(columns[name])
        tasks.append(task_from_options({"name": str(name), **options}))
        reasons[tasks[-1].name] = reason
    return tasks, reasons


def _text(who: str, labels: Any, values: list[Label], n_observed: int) -> tuple[str, str]:
    if len(values) > max(20, n_observed // 2) and not _is_categorical(labels):
        raise TargetError(
            f"{who} has {len(values)} different texts in {n_observed} rows, such as {values[0]!r}: names or "
            "identifiers, not classes. Leave it out of the targets, or give its kind."
        )
    return "multiclass", f"text with {len(values)} different values"


def _is_categorical(labels: Any) -> bool:
    return hasattr(getattr(labels, "dtype", None), "categories")


def _ordered_levels(labels: Any) -> tuple[Label, ...]:
    # A pandas series, an index or a categorical array, told by its dtype.
    dtype = getattr(labels, "dtype", None)
    if not getattr(dtype, "ordered", False):
        return ()
    return tuple(value.item() if isinstance(value, np.generic) else value for value in dtype.categories)  # type: ignore[union-attr]
