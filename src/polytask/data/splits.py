"""Training, validation and test rows: at random, stratified over all tasks, by group, by time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytask.errors import DataError

__all__ = ["Split", "holdout"]


@dataclass(frozen=True)
class Split:
    """Positions of the training, validation and test rows, each ascending."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def holdout(n_rows: int, *, validation: float = 0.2, test: float = 0.0, seed: int = 0) -> Split:
    """Split rows at random."""
    order = np.random.default_rng(seed).permutation(n_rows)
    n_validation, n_test = round(n_rows * validation), round(n_rows * test)
    if n_rows - n_validation - n_test < 1:
        raise DataError(f"{n_rows} rows are too few.")
    parts = np.split(order, [n_rows - n_validation - n_test, n_rows - n_test])
    return Split(*(np.sort(part) for part in parts))
