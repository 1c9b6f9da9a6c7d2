"""Divisions inside the training rows of a fold, for what is chosen before the fold's own validation rows are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from polytask.bundle import BundledModel
from polytask.bundle.columns import labels_of_column
from polytask.data.batch import ArraySource
from polytask.data.splits import Split, holdout, k_folds
from polytask.errors import DataError, NonFiniteError
from polytask.study.arm import FoldData, outputs_of

__all__ = ["inner_errors", "inner_folds", "why_not_divide"]

_SHARE = 0.25
"""Share of the training rows that judge the trials of a search."""


def inner_folds(fold: FoldData, n: int = 1) -> list[FoldData]:
    """The training rows divided again: ``n`` folds whose validation rows are training rows of the fold.

    Codecs and transforms stay those of all the training rows. Rows are divided by the same criteria as outside: whole
    groups, the newest last, else stratified over all tasks; the rows of several sources together.

    Args:
        fold: The fold.
        n: One division, with a quarter of the rows to judge by, or so many folds.
    """
    if n == 1:
        return [_part(fold, split.train, split.validation) for split in _splits(fold, n)]
    return [_part(fold, split.train, split.test) for split in _splits(fold, n)]


def why_not_divide(fold: FoldData, n: int = 1) -> str:
    """Why :func:`inner_folds` cannot divide the training rows, such as into more parts than groups; empty if it can."""
    try:
        _splits(fold, n)
    except DataError as error:
        return f"it divides the training rows of a fold once more, and that fails: {error}"
    return ""


def _splits(fold: FoldData, n: int) -> list[Split]:
    n_rows = sum(map(len, fold.prepared.train.values()))
    options: dict[str, Any] = {
        "seed": fold.seed,
        "labels": _labels(fold) if fold.terms.times is None else None,
        "groups": _joined(fold, fold.terms.groups),
        "times": _joined(fold, fold.terms.times),
    }
    if n == 1:
        return [holdout(n_rows, validation=_SHARE, **options)]
    return k_folds(n_rows, n, **options)


def _labels(fold: FoldData) -> dict[str, np.ndarray]:
    """The labels of all tasks, missing in the rows of other sources; and of which source each row is."""
    sources = fold.plain["train"]
    found = {
        column.key: np.concatenate(
            [
                labels_of_column(column, sources[name])
                if column.task in sources[name].tasks
                else np.full(len(sources[name]), np.nan)
                for name in fold.prepared.train
            ]
        )
        for column in fold.columns
    }
    if len(fold.prepared.train) > 1:
        found[""] = np.concatenate([np.full(len(s), name) for name, s in fold.prepared.train.items()])
    return found


def _joined(fold: FoldData, by_source: Mapping[str, np.ndarray] | None) -> np.ndarray | None:
    return None if by_source is None else np.concatenate([by_source[name] for name in fold.prepared.train])


def _part(fold: FoldData, train: np.ndarray, validation: np.ndarray) -> FoldData:
    rows = {"train": train, "validation": validation}

    def parts(sources: Mapping[str, ArraySource]) -> dict[str, dict[str, ArraySource]]:
        taken: dict[str, dict[str, ArraySource]] = {part: {} for part in rows}
        start = 0
        for name in fold.prepared.train:
            stop = start + len(sources[name])
            for part, chosen in rows.items():
                own = chosen[(chosen >= start) & (chosen < stop)] - start
                if len(own):
                    taken[part][name] = sources[name].take(torch.from_numpy(own))
            start = stop
        return taken

    taken = parts(fold.prepared.train)
    prepared = replace(fold.prepared, train=taken["train"], validation=taken["validation"])
    plan = fold.planner(prepared) if fold.planner is not None else fold.plan
    return replace(fold, prepared=prepared, plain=parts(fold.plain["train"]), plan=plan)


def inner_errors(fold: FoldData, models: Sequence[BundledModel]) -> dict[str, float]:
    """The relative error of each task on the validation rows; a task for which none is defined there is left out.

    Raises:
        NonFiniteError: If one is infinite: left out, it would make the model look better than it is.
    """
    validation = fold.prepared.validation
    outputs = outputs_of(models, {name: {"": source} for name, source in validation.items()})
    found = {}
    for task in fold.tasks:
        for source in validation.values():
            if task.name not in source.tasks or not (observed := source.observed[task.name]).any():
                continue
            error = task.evaluate(outputs[task.name], source.targets[task.name], observed)["relative_error"]
            if np.isinf(error):
                raise NonFiniteError(f"The error of task {task.name!r} is infinite on the inner validation rows.")
            if not np.isnan(error):
                found[task.name] = float(error)
    return found
