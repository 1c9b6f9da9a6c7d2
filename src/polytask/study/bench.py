"""Units of work, and the bench on which a worker carries them out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytask.data.splits import Split
from polytask.recipe import Recipe
from polytask.study.arm import FittedArm, FoldData, learn, why_not_learn
from polytask.study.finished import FinishedNetworks
from polytask.study.folds import JudgedFold, Protocol, make_fold, whole_fold
from polytask.study.naming import make_arm
from polytask.study.networks import NetworkArm, whole
from polytask.study.several import rows_of
from polytask.study.store import Answers, KeptFold, Store, Trial, keep_fold, trial_key
from polytask.study.terms import Terms
from polytask.study.trials import train_trials
from polytask.tasks.task import Task
from polytask.training.building import network_of
from polytask.training.data_sets import DataSet
from polytask.training.planning import plan_of
from polytask.training.preparation import Prepared
from polytask.training.run import Plan

__all__ = ["MOST_ROWS", "Bench", "Done", "LastTraining", "Material", "Place", "PlannedTrial", "Unit", "Work"]

MOST_ROWS = 50_000
"""With more rows, several folds are too much to lie in memory at once, and there is little to win."""
_READY = 8
"""Folds that lie ready."""


@dataclass(frozen=True)
class Material:
    """What every worker needs, given to it once.

    Args:
        data: The data.
        tasks: The tasks, fitted on all rows.
        recipe: The networks' side of the study.
        protocol: How rows are divided.
        terms: On what terms arms may search.
        folder: Where workers keep networks until their unit is done; ``None`` for nowhere.
    """

    data: DataSet
    tasks: Sequence[Task]
    recipe: Recipe
    protocol: Protocol
    terms: Terms = field(default_factory=Terms)
    folder: Path | None = None

    def finished(self, work: Work) -> FinishedNetworks:
        """The networks of a piece of work that were trained already."""
        return FinishedNetworks(None if self.folder is None else self.folder / work.key)


@dataclass(frozen=True)
class Place:
    """Which fold of which repetition, and its rows."""

    repeat: int
    fold: int
    split: Split = field(compare=False)


@dataclass(frozen=True)
class PlannedTrial:
    """An arm to be trained and tested on a fold.

    Args:
        arm: Its name.
        place: The fold.
        given: What it found on another fold, which it is to use here and not to search for anew.
    """

    arm: str
    place: Place
    given: Mapping[str, Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.arm}, repetition {self.place.repeat + 1}, fold {self.place.fold + 1}"


@dataclass(frozen=True)
class Unit:
    """Trials that are done together, by one worker.

    Args:
        trials: The trials; mostly one.
    """

    trials: tuple[PlannedTrial, ...]

    @property
    def key(self) -> str:
        """Where its networks are kept; which trials come after the first follows from the study."""
        first = self.trials[0]
        return trial_key(first.arm, first.place.repeat, first.place.fold)

    def __str__(self) -> str:
        more = f" and {len(self.trials) - 1} more" if len(self.trials) > 1 else ""
        return f"{self.trials[0]}{more}"


@dataclass(frozen=True)
class LastTraining:
    """An arm to be trained on all rows, after it was chosen.

    Args:
        arm: Its name.
        tasks: The tasks that it is to answer.
        settled: What its trials settled, so that it needs no validation rows.
    """

    arm: str
    tasks: tuple[str, ...]
    settled: Mapping[str, Any] = field(compare=False)

    @property
    def key(self) -> str:
        """Where its networks are kept; with a budget, a study that is gone on with may settle something else."""
        asked = json.dumps([self.arm, self.tasks, self.settled], sort_keys=True, default=str)
        return f"all/{hashlib.sha256(asked.encode()).hexdigest()[:16]}"

    def __str__(self) -> str:
        return f"{self.arm}, all rows"


Result = tuple[Trial, Answers]
"""A trial and the answers of its arm."""
Work = Unit | LastTraining
"""What a worker is given."""
Done = list[Result] | FittedArm
"""What it gives back: the trials of a unit, or the arm that was trained on all rows."""


_NETWORKS = ("joint", "single", "pooled")
"""Roles of arms that train networks, some of which do more than that, such as a search."""


@cache
def _load_compiler() -> None:
    """Load what a first network loads: its seconds would be taken for those of the arm that happens to be first."""
    torch.optim.SGD([torch.zeros(1)])


class Bench:
    """Where units are carried out; the folds that were used last lie ready.

    Args:
        material: The data and what is asked of them.
        tell: Told in words how far a long trial is.
    """

    def __init__(self, material: Material, tell: Callable[[str], None] | None = None):
        self.material, self.tell = material, tell
        self._made: dict[tuple[int, int], tuple[JudgedFold, KeptFold]] = {}

    def carry_out(self, unit: Work) -> Done:
        """Train and test the unit's trials, networks of one shape at once; or train an arm on all rows."""
        import torchmetrics.functional  # noqa: F401  # not within a trial's seconds

        names = [unit.arm] if isinstance(unit, LastTraining) else [planned.arm for planned in unit.trials]
        if any(make_arm(name).role in _NETWORKS for name in names):
            _load_compiler()
        if isinstance(unit, LastTraining):
            arm = make_arm(unit.arm)
            fold = self.whole.only(unit.tasks) if arm.is_per_task else self.whole
            if isinstance(arm, NetworkArm) and len(fold.prepared.train) == 1:
                return arm.assemble(fold, whole(self.material.finished(unit).fit(arm.trainings(fold, unit.settled))))
            return learn(arm, fold, unit.settled)
        asked = []
        for planned in unit.trials:
            judged, kept = self.fold(planned.place)
            if planned.given is not None:
                terms = replace(judged.data.terms, given={planned.arm: planned.given})
                judged = replace(judged, data=replace(judged.data, terms=terms))
            asked.append((make_arm(planned.arm), kept, judged))
        return train_trials(asked, self.material.finished(unit))

    def check(self, arms: Sequence[str]) -> None:
        """Raise if the networks of an arm cannot be built; the first one of each is, on the first fold.

        Raises:
            PolytaskError: If an option is not known, or has a value that its method does not take.
        """
        protocol = self.material.protocol
        data = self.fold(Place(*protocol.splits(self.material.data, self.material.tasks)[0]))[0].data
        for name in arms:
            arm = make_arm(name)
            is_divided = arm.is_per_task and len(data.prepared.train) > 1  # it reads one source after the other
            if not isinstance(arm, NetworkArm) or is_divided or why_not_learn(arm, data):
                continue
            one = arm.trainings(data)[0]
            with torch.random.fork_rng(devices=[]):  # the parameters that are drawn are thrown away
                network_of(one.prepared, one.plan)

    @cached_property
    def whole(self) -> FoldData:
        """All rows, for training and nothing else."""
        material = self.material
        fold = whole_fold(material.data, material.tasks, self.plan, material.protocol.seed)
        return replace(fold, terms=replace(fold.terms, **self._columns(fold, np.arange(len(material.data)))))

    def fold(self, place: Place) -> tuple[JudgedFold, KeptFold]:
        """A fold with its rows, and what scoring needs of it."""
        where = (place.repeat, place.fold)
        if where not in self._made:
            material = self.material
            # They are asked for again arm by arm.
            most = _READY if len(material.data) <= MOST_ROWS else 1
            while len(self._made) >= most:
                del self._made[next(iter(self._made))]
            seed, group = material.protocol.seed_of(*where), material.protocol.group
            judged = make_fold(material.data, material.tasks, self.plan, where, seed, place.split, group)
            judged.data = replace(
                judged.data, terms=self._terms(judged.data, place), where=f"{place.repeat}-{place.fold}"
            )
            self._made[where] = judged, keep_fold(Store(None), judged)
        return self._made[where]

    def _terms(self, fold: FoldData, place: Place) -> Terms:
        return replace(self.material.terms, tell=self._told, **self._columns(fold, place.split.train))

    def _columns(self, fold: FoldData, train: np.ndarray) -> dict[str, Any]:
        """Groups or times of the training rows, by source; a source whose tasks are all absent is not in the fold."""
        protocol, data = self.material.protocol, self.material.data
        mine = {source: rows for source, rows in rows_of(data, train).items() if source in fold.prepared.train}
        return {
            key: {source: data.column(name)[rows] for source, rows in mine.items()}
            for key, name in (("groups", protocol.group), ("times", protocol.time))
            if name
        }

    def _told(self, text: str) -> None:
        if self.tell is not None:
            self.tell(text)

    def plan(self, prepared: Prepared) -> Plan:
        """The networks' plan for prepared data."""
        return plan_of(self.material.recipe, prepared, tasks=[task.name for task in self.material.tasks])
