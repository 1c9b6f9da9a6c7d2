"""One network for each group of tasks that help each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from polytask.affinity.grouping import GroupBudget, group_tasks
from polytask.affinity.groups import gains_of
from polytask.affinity.measures import registry as measures
from polytask.study.affinities import DEFAULT_MEASURE, Served, affinity_of, described, whole_number, why_not_measure
from polytask.study.arm import Arm, FittedArm, FoldData

__all__ = ["Grouped"]


class Grouped(Arm):
    """One network for each group of tasks that help each other, by an affinity measured on the fold's training rows.

    Args:
        name: See :class:`~polytask.study.arm.Arm`; ``grouped:lookahead@3`` makes at most three groups by look-ahead.
        kind: The measure; the cosine of gradients if ``None``.
        ratio: Largest number of groups; about the root of the number of tasks if ``None``.

    Raises:
        RecipeError: If what follows @ is no whole number.

    Note:
        It costs two readings of the measure, on half of the training rows each, and one training for each group. Left
        out with fewer than three tasks. Where the readings show no structure the groups are made all the same, and a
        note of the study says so.
    """

    role: ClassVar[str] = "joint"
    takes: ClassVar[tuple[str, ...]] = ("kind", "ratio")

    def __init__(self, name: str, kind: str | None = None, ratio: str | None = None):
        super().__init__(name)
        self.measure = kind or DEFAULT_MEASURE
        measures.load(self.measure)  # so that a wrong name is found before anything is trained
        self.most = whole_number(name, ratio)

    @property
    def words(self) -> str:
        """What the arm is."""
        most = f"at most {self.most} groups" if self.most else "a few groups"
        return f"One network per group of tasks; {most}, by {self.measure} on the training rows."

    def why_not(self, fold: FoldData) -> str:
        """There must be something to divide, and rows to measure it on."""
        if len(fold.tasks) < 3:
            return "it takes three tasks or more to choose groups from"
        return why_not_measure(fold, self.measure)

    def fit(self, fold: FoldData, settled: Mapping[str, float] | None = None) -> FittedArm:
        """Measure, group, train a network for each group."""
        names = [task.name for task in fold.tasks]
        found = affinity_of(fold, self.measure)
        models = self.most or max(2, round(len(names) ** 0.5))
        chosen = group_tasks(gains_of(found), names, GroupBudget(models=models), seed=fold.seed)
        served = Served(fold, settled)
        for group, serves in zip(chosen.groups, chosen.serves, strict=True):
            served.train(group, serves)
        notes = [] if found.structure.is_found else [f"On a fold: {found.structure.words}"]
        return FittedArm(
            served.models,
            settled=served.settled,
            curves=served.curves,
            affinity=described(self.measure, found, names, chosen.groups, chosen.serves),
            notes=[*served.notes, *notes],
        )
