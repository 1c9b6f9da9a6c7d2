"""Whether pairs of tasks differ in more than chance: readings of other rows must agree on which pairs stand out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from polytask.affinity.record import Structure
from polytask.training.progress import Progress, counted

__all__ = ["agreement", "structure_of"]

_LEVEL = 0.05
_PERMUTATIONS = 999
_CLOSE = 0.5
"""From this correlation on it would be wrong to say that readings do not agree."""


def structure_of(
    readings: Sequence[np.ndarray], *, halves: bool, seed: int = 0, progress: Progress | None = None
) -> Structure:
    """Mantel's permutation test between readings.

    If pairs of tasks differ, two readings agree about which are the close ones. If not, renaming the tasks of one
    of them changes nothing; the p-value is the share of renamings under which the two agree as well as they do.

    Args:
        readings: A matrix ``[T, T]`` for each seed.
        halves: Whether each two of them come from rows that they do not share; only those are compared then. Where
            all readings come from the same rows, chance in the rows is the same in all and cannot be told from
            structure.
        seed: Of the permutations.
        progress: Told about each permutation.

    References:
        Mantel, "The detection of disease clustering and a generalized regression approach", 1967.
    """
    n_tasks = len(readings[0])
    pairs = [
        (a, b) for a, b in itertools.combinations(range(len(readings)), 2) if not halves or (a % 2 == 0 and b == a + 1)
    ]
    if not pairs:
        return Structure(False, None, None, "One reading tells nothing about chance; take two seeds or more.")
    seen = [agreement(readings[a], readings[b]) for a, b in pairs]
    known = [value for value in seen if not math.isnan(value)]
    if not known:
        return Structure(False, None, None, "Too few pairs are known in two readings to tell structure from chance.")
    observed = float(np.mean(known))
    if n_tasks < 4:
        words = f"{n_tasks} tasks are too few to tell structure from chance."
        return Structure(False, None, round(observed, 4), words)
    rng = np.random.default_rng(seed)
    as_good = 0
    for _ in counted(range(_PERMUTATIONS), "test for structure", _PERMUTATIONS, progress):
        drawn = []
        for a, b in pairs:
            order = rng.permutation(n_tasks)
            drawn.append(agreement(readings[a], readings[b][np.ix_(order, order)]))
        finite = [value for value in drawn if not math.isnan(value)]
        as_good += int(not finite or float(np.mean(finite)) >= observed - 1e-12)
    p = (1 + as_good) / (1 + _PERMUTATIONS)
    caution = "" if halves else " All readings come from the same rows, so chance in the rows is not ruled out."
    if p <= _LEVEL:
        words = (
            "There is structure: independent readings agree about which pairs are close "
            f"(r = {observed:.2f}, p = {p:.3f})."
        )
    elif observed >= _CLOSE:
        words = (
            "It may be chance: independent readings agree about which pairs are close "
            f"(r = {observed:.2f}), but so do {p:.0%} of all random exchanges of the {n_tasks} tasks' names "
            f"(p = {p:.3f}). It takes more tasks to tell."
        )
    else:
        words = (
            f"No structure was found: independent readings do not agree about which pairs are close "
            f"(r = {observed:.2f}, p = {p:.3f}), so that groups are no better than random ones."
        )
    return Structure(p <= _LEVEL, round(p, 4), round(observed, 4), words + caution)


def agreement(a_TT: np.ndarray, b_TT: np.ndarray) -> float:
    """Correlation of two matrices over the pairs that both know; NaN if there is nothing to correlate.

    Example:
        >>> a = np.array([[0, 1.0, 2], [3, 0, 4], [5, 6, 0]])
        >>> round(agreement(a, 2 * a + 1), 6)
        1.0
    """
    off = ~np.eye(len(a_TT), dtype=bool)
    x, y = a_TT[off], b_TT[off]
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 3 or x[both].std() < 1e-15 or y[both].std() < 1e-15:
        return float("nan")
    return float(np.corrcoef(x[both], y[both])[0, 1])
