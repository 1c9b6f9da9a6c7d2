"""One network for each task, learned with the tasks that help it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from polytask.affinity.groups import gains_of
from polytask.affinity.measures import registry as measures
from polytask.study.affinities import DEFAULT_MEASURE, Served, affinity_of, described, whole_number, why_not_measure
from polytask.study.arm import Arm, FittedArm, FoldData

__all__ = ["Helpers", "helpers_of"]

_MOST = 3


class Helpers(Arm):
    """One network per task, learned with its helpers: the tasks that do most for it, measured on training rows.

    Each task is the main task of one network, which answers that task only and stops early by it alone; its helpers
    are those of the largest affinity above zero, and there may be none.

    Args:
        name: See :class:`~polytask.study.arm.Arm`; ``helpers:lookahead@2`` takes at most two helpers by look-ahead.
        kind: The measure; the cosine of gradients if ``None``.
        ratio: Largest number of helpers; 3 if ``None``.

    Raises:
        RecipeError: If what follows @ is no whole number.

    Note:
        It costs two readings of the measure, on half of the training rows each, and one training for each task, so that
        it grows with the number of tasks as ``single`` does; a network learns up to four tasks and answers one.
        ``grouped`` has fewer networks. Left out with one task.
    """

    role: ClassVar[str] = "joint"
    takes: ClassVar[tuple[str, ...]] = ("kind", "ratio")

    def __init__(self, name: str, kind: str | None = None, ratio: str | None = None):
        super().__init__(name)
        self.measure = kind or DEFAULT_MEASURE
        measures.load(self.measure)
        self.most = whole_number(name, ratio) or _MOST

    @property
    def words(self) -> str:
        """What the arm is."""
        return (
            f"One network per task, learned with at most {self.most} helper tasks; these are chosen by {self.measure} "
            "on the training rows."
        )

    def why_not(self, fold: FoldData) -> str:
        """There must be a task to help, and rows to measure it on."""
        if len(fold.tasks) < 2:
            return "there is one task only, so nothing can help it"
        return why_not_measure(fold, self.measure)

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Measure, choose helpers, train a network for each task."""
        names = [task.name for task in fold.tasks]
        found = affinity_of(fold, self.measure)
        chosen = helpers_of(gains_of(found), names, self.most)
        served = Served(fold, settled)
        # A task without a validation label cannot stop a training; its network stops by all of its tasks.
        judged = {n for part in fold.prepared.validation.values() for n in names if bool(part.observed[n].any())}
        groups = [[task for task in names if task == main or task in helpers] for main, helpers in chosen.items()]
        for main, group in zip(chosen, groups, strict=True):
            served.train(group, [main], f"task:{main}" if main in judged else None)
        return FittedArm(
            served.models,
            settled=served.settled,
            curves=served.curves,
            affinity=described(self.measure, found, names, groups, [[main] for main in chosen]),
            notes=list(dict.fromkeys(served.notes)),
        )


def helpers_of(gains: np.ndarray, names: list[str], most: int) -> dict[str, list[str]]:
    """For each task the tasks that do most for it, the best first; only those above zero.

    Example:
        >>> helpers_of(np.array([[0, 2.0, -1], [1, 0, -1], [3, np.nan, 0]]), ["a", "b", "c"], 1)
        {'a': ['c'], 'b': ['a'], 'c': []}
    """
    known = np.nan_to_num(gains, nan=0.0)
    np.fill_diagonal(known, 0.0)
    order = np.argsort(-known, axis=0, kind="stable")
    return {main: [names[i] for i in order[:most, j] if known[i, j] > 0] for j, main in enumerate(names)}
