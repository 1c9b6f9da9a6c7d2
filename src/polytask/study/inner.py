"""Divisions inside the training rows of a fold, for what is chosen before the fold's own validation rows are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from polytask.bundle import BundledModel
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
    groups, the newest last, else stratified over all tasks.

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
    terms, n_rows = fold.terms, len(fold.prepared.train[fold.source])
    labels = {column.key: fold.labels(column, "train") for column in fold.columns} if terms.times is None else None
    options = {"seed": fold.seed, "labels": labels, "groups": terms.groups, "times": terms.times}
    if n == 1:
        return [holdout(n_rows, validation=_SHARE, **options)]  # type: ignore[arg-type]
    return k_folds(n_rows, n, **options)  # type: ignore[arg-type]


def _part(fold: FoldData, train: np.ndarray, validation: np.ndarray) -> FoldData:
    rows = {"train": torch.from_numpy(train), "validation": torch.from_numpy(validation)}

    def parts(sources: Mapping[str, ArraySource]) -> dict[str, dict[str, ArraySource]]:
        return {part: {name: source.take(r) for name, source in sources.items()} for part, r in rows.items()}

    taken = parts(fold.prepared.train)
    prepared = replace(fold.prepared, train=taken["train"], validation=taken["validation"])
    plan = fold.planner(prepared) if fold.planner is not None else fold.plan
    return replace(fold, prepared=prepared, plain=parts(fold.plain["train"]), plan=plan)


def inner_errors(fold: FoldData, models: list[BundledModel]) -> dict[str, float]:
    """The relative error of each task on the validation rows; a task for which none is defined there is left out.

    Raises:
        NonFiniteError: If one is infinite: left out, it would make the model look better than it is.
    """
    source = fold.prepared.validation[fold.source]
    outputs = outputs_of(models, {fold.source: {"": source}})
    found = {}
    for task in fold.tasks:
        targets, observed = source.targets[task.name], source.observed[task.name]
        error = task.evaluate(outputs[task.name], targets, observed)["relative_error"] if observed.any() else np.nan
        if np.isinf(error):
            raise NonFiniteError(f"The error of task {task.name!r} is infinite on the inner validation rows.")
        if not np.isnan(error):
            found[task.name] = float(error)
    return found
