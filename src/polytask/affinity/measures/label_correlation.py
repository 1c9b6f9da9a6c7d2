"""How alike the labels are where both are there."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import numpy as np
from scipy.stats import rankdata

from polytask.affinity.ground import Ground
from polytask.affinity.measure import Measure, Reading, above_middle
from polytask.data.batch import ArraySource
from polytask.tasks.task import Task

__all__ = ["LabelCorrelation"]


class LabelCorrelation(Measure):
    r"""The correlation of two tasks' labels on the rows that have both.

    With :math:`Y_i, Y_j` the centred labels, ranks for numbers, ones and zeros for classes,

    .. math:: \rho_{ij} = \frac{\lVert Y_i^\top Y_j \rVert_F}
        {\sqrt{\lVert Y_i^\top Y_i \rVert_F \, \lVert Y_j^\top Y_j \rVert_F}},

    which for two tasks of one column each is the absolute value of Spearman's correlation (of the phi coefficient for
    two binary ones); its sign is kept then.

    Args:
        min_rows: Fewest rows with both labels; below, the value is NaN.

    Example:
        >>> from polytask.affinity import measure_affinity
        >>> from polytask.data.generators import related_regressions
        >>> made = related_regressions(2, 2000, relatedness=0.5, noise=0.0)
        >>> result = measure_affinity(made.frame, list(made.targets), "label_correlation")
        >>> 0.4 < result.values[0][1] < 0.6
        True

    Note:
        The cheapest measure: no network is trained. It sees labels only: two tasks that need the same features for
        opposite answers, or for answers that have nothing to do with each other, look unrelated or opposed, though
        they may share all their features. Grouping takes the absolute value. Tasks of several sources that have no
        row in common cannot be compared by it. Tasks that rebuild the inputs have no labels.

    References:
        Spearman, "The proof and measurement of association between two things", 1904; Robert and Escoufier, "A unifying
        tool for linear multivariate statistical methods: the RV coefficient", 1976 (its square root).
    """

    words: ClassVar[str] = "correlation of the labels of i and j on the rows that have both"
    has_zero: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    def __init__(self, min_rows: int = 10):
        self.min_rows = min_rows

    def read(self, ground: Ground) -> Reading:
        """The matrix for one half of the rows."""
        tasks = ground.tasks
        values = np.full((len(tasks), len(tasks)), np.nan)
        few = 0
        columns = {source.name: _columns(tasks, source) for source in ground.prepared.train.values()}
        for i, j in combinations(range(len(tasks)), 2):
            parts = [
                (known[tasks[i].name], known[tasks[j].name])
                for known in columns.values()
                if tasks[i].name in known and tasks[j].name in known
            ]
            pairs = [(a[both], b[both]) for a, b in parts if (both := ~(np.isnan(a[:, 0]) | np.isnan(b[:, 0]))).any()]
            n = sum(len(a) for a, _ in pairs)
            if n < self.min_rows:
                few += 1
                continue
            a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
            values[i, j] = values[j, i] = correlation(_ranked(a), _ranked(b))
        rebuilding = [task.name for task in tasks if task.of_inputs]
        notes = [f"{few} pairs have fewer than {self.min_rows} training rows with both labels."] if few else []
        if rebuilding:
            notes.append(f"{', '.join(rebuilding)}: no labels but the inputs themselves.")
        return Reading(values, tuple(notes))

    def gains(self, values: np.ndarray) -> np.ndarray:
        """Absolute correlation, less the median of all pairs."""
        return above_middle(np.abs(values))


def correlation(a_NP: np.ndarray, b_NQ: np.ndarray) -> float:
    """Root of the RV coefficient of two tables of columns; signed if both have one; NaN if one is constant.

    Example:
        >>> x = np.arange(4.0)[:, None]
        >>> correlation(x, -x)
        -1.0
    """
    a, b = a_NP - a_NP.mean(0), b_NQ - b_NQ.mean(0)
    scale = np.sqrt(np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    if scale < 1e-12:
        return float("nan")
    cross = a.T @ b
    value = float(np.linalg.norm(cross) / scale)
    return float(np.sign(cross[0, 0]) * value) if cross.size == 1 else value


def _columns(tasks: list[Task], source: ArraySource) -> dict[str, np.ndarray]:
    """Each task's labels ``[N, C]``: numbers as they are, classes as ones and zeros, NaN where not observed."""
    found = {}
    for task in tasks:
        if task.name not in source.tasks or task.of_inputs:
            continue
        targets, observed = source.targets[task.name].numpy(), source.observed[task.name].numpy()
        if task.kind == "multiclass":
            columns = np.eye(max(task.n_outputs, int(targets.max(initial=0)) + 1))[targets.astype(int)]
        else:
            columns = targets.astype(np.float64).reshape(len(targets), -1)
        # A row counts if all of its columns are there.
        seen = observed.reshape(len(observed), -1).all(1)
        columns[~seen] = np.nan
        found[task.name] = columns
    return found


def _ranked(columns: np.ndarray) -> np.ndarray:
    ranks: np.ndarray = rankdata(columns, axis=0)
    return ranks
