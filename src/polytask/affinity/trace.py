"""From what was seen at several moments of a training to one matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from polytask.affinity.ground import Ground

__all__ = ["absent_notes", "cosines", "mean_over"]


def cosines(gramian_TT: np.ndarray) -> np.ndarray:
    """Cosines of the vectors of a Gramian; NaN for those that are zero or not known, and on the diagonal.

    Example:
        >>> cosines(np.array([[4.0, 2.0], [2.0, 4.0]])).tolist()
        [[nan, 0.5], [0.5, nan]]
    """
    norms = np.sqrt(np.where(np.diag(gramian_TT) > 0, np.diag(gramian_TT), np.nan))
    found: np.ndarray = np.clip(gramian_TT / np.outer(norms, norms), -1.0, 1.0)
    np.fill_diagonal(found, np.nan)
    return found


def mean_over(each_STT: np.ndarray) -> np.ndarray:
    """Mean over the moments at which a pair is known; NaN where it never is.

    Example:
        >>> mean_over(np.array([[[np.nan, 1.0]], [[np.nan, np.nan]]])).tolist()
        [[nan, 1.0]]
    """
    known = np.isfinite(each_STT)
    count = known.sum(0)
    total = np.where(known, each_STT, 0.0).sum(0)
    mean: np.ndarray = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def absent_notes(ground: Ground, each_STT: np.ndarray) -> tuple[str, ...]:
    """A note on the tasks that have no value with any other."""
    if len(ground.tasks) < 2:
        return ("There is one task only, so there is no pair.",)
    never = ~np.isfinite(each_STT).any((0, 2))
    names = [name for name, without in zip(ground.names, never, strict=True) if without]
    if not names:
        return ()
    return (f"{', '.join(names)}: no gradient at a shared parameter (no label among the rows, or nothing is shared).",)
