"""All trials of a study: the first fold of every arm tells what fits the budget; then fold by fold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from polytask.errors import RecipeError
from polytask.study.bench import MOST_ROWS, Bench, Place, PlannedTrial, Unit, Work
from polytask.study.budget import Budget
from polytask.study.engine import Engine
from polytask.study.folds import label_groups
from polytask.study.naming import make_arm
from polytask.study.networks import NetworkArm
from polytask.study.outcome import Outcome
from polytask.study.scores import FoldScores
from polytask.study.store import KeptFold, Store, Trial, keep_fold, keep_trial, load_answers, load_fold, load_trial

__all__ = ["Listener", "Trainings"]

_TOGETHER = 8
"""Networks that are trained at once; more fall out of the processor's caches and win nothing."""

Listener = Callable[[str, int, int], None]
"""Told what is being trained, how many trials are done, and how many there will be."""


class Trainings:
    """Trains every arm on every fold that the budget has room for; what a store holds is not trained again.

    Args:
        bench: The data and what is asked of them.
        arms: Names of the arms, in the order in which they are tried.
        seconds: The budget; ``None`` for no limit.
        needed: Arms that are run whatever the budget is.
        store: Where trials are kept.
        engine: Where they are trained.
        listener: Told about every trial.
    """

    def __init__(
        self,
        bench: Bench,
        arms: Sequence[str],
        seconds: float | None,
        needed: Sequence[str],
        store: Store,
        engine: Engine,
        listener: Listener,
    ):
        self.bench, self.arms, self.store, self.engine, self.listener = bench, list(arms), store, engine, listener
        self.protocol = bench.material.protocol
        splits = self.protocol.splits(bench.material.data, bench.material.tasks)
        self.places = [Place(*split) for split in splits]
        self.budget = Budget(seconds, len(self.places), needed, engine.workers)
        self.left_out: dict[str, str] = {}
        """Per arm, or number of folds, why it was not trained."""
        self.overrun = ""
        """Why the trainings took longer than the budget; empty if they did not."""
        self.given: dict[str, dict[str, Any]] = {}
        """What arms found on the first fold and use on the others, for want of time to search there too."""
        self._searching: set[str] = set()
        """Arms that search on every fold anew."""
        self._kept: dict[Place, KeptFold] = {}
        self._running: dict[str, str] = {}
        """What is being trained, and how far it is where that is known."""
        engine.listener = self._far
        self._done = self._total = 0

    def run(self) -> Outcome:
        """Train them all.

        Raises:
            RecipeError: If no arm can be run.
            TrainingError: If a worker died again and again.
        """
        began = time.monotonic()
        trials = self._first_fold()
        n_folds, n_all = self.budget.folds(), len(self.places)
        places = self.places[:n_folds]
        self._go_through(places[1:], trials)
        if n_folds < n_all:
            self.left_out[f"{n_all - n_folds} of {n_all} folds"] = (
                f"all {n_all} folds would take about {self.budget.planned:.0f} s, and the budget is "
                f"{self.budget.seconds:g} s"
            )
        spent = sum(trial.seconds for found in trials.values() for trial in found)
        may_repeat = self.protocol.may_repeat and n_folds == n_all
        repeats = self.budget.repeats(spent) if may_repeat else 1
        if repeats > 1:
            material = self.bench.material
            again = replace(self.protocol, repeats=repeats).splits(material.data, material.tasks)
            more = [Place(*split) for split in again[n_all:]]
            self._go_through(more, trials)
            places += more
        spent = sum(trial.seconds for found in trials.values() for trial in found)
        self.overrun = self.budget.overrun(spent, time.monotonic() - began)
        kept = [self._keep(place) for place in places]
        scores = [
            FoldScores(
                fold,
                {arm: found[i] for arm, found in trials.items()},
                {arm: load_answers(self.store, arm, fold.record.repeat, fold.record.fold) for arm in trials},
                self._validation_groups(places[i], fold),
            )
            for i, fold in enumerate(kept)
        ]
        records = [fold.record for fold in kept]
        return Outcome(self.bench.material.tasks, records, trials, scores, self.protocol.is_fixed)

    def _validation_groups(self, place: Place, kept: KeptFold) -> dict[str, np.ndarray]:
        """By task, the group of each validation label; nothing if rows are not kept together."""
        group = self.protocol.group
        if group is None:
            return {}
        return label_groups(self.bench.material.data, list(kept.tasks.values()), place.split.validation, group)

    def _first_fold(self) -> dict[str, list[Trial]]:
        """The first trial of the arms that are kept; the others are left out, with the reason.

        Arms are decided on in their order, whichever is finished first, so that the same times decide the same. Where
        several are trained at once, one may be begun that, as it turns out, there is no time for.
        """
        place = self.places[0]
        self._total = len(self.arms) * len(self.places)
        found: dict[str, Trial] = {}
        trials: dict[str, list[Trial]] = {}
        undecided = list(self.arms)

        def decide() -> None:
            while undecided and (undecided[0] in found or self.budget.why_not_try(undecided[0])):
                arm = undecided.pop(0)
                if reason := self.budget.why_not_try(arm):
                    self.left_out[arm] = reason
                    continue
                trial = found[arm]
                if reason := trial.why_not or self._why_not_keep(arm, trial):
                    self.left_out[arm] = reason
                else:
                    trials[arm] = [trial]

        def wanted() -> Iterator[Unit]:
            for arm in self.arms:
                decide()
                if not self.budget.why_not_try(arm):
                    yield Unit((PlannedTrial(arm, place),))

        self._train(wanted(), lambda planned, trial: found.update({planned.arm: trial}))
        decide()
        if not trials:
            raise RecipeError("No arm could be run: " + "; ".join(f"{a}: {why}" for a, why in self.left_out.items()))
        return trials

    def _why_not_keep(self, arm: str, trial: Trial) -> str:
        """Why there is no time for an arm; one that searches may use on all folds what it found on the first."""
        later = trial.search.get("seconds_of_winner")
        is_whole = self.budget.has_room(trial.seconds) or arm in self.budget.needed
        if later is not None and not is_whole and self.budget.first_only(arm, trial.seconds, later):
            self.given[arm] = trial.settled
            return ""
        if later is not None:
            self._searching.add(arm)
        return self.budget.why_not_keep(arm, trial.seconds)

    def _go_through(self, places: Sequence[Place], trials: dict[str, list[Trial]]) -> None:
        """Every arm on more folds; the longest first, so that no worker is left with a long one at the end."""
        self._done = sum(len(found) for found in trials.values())
        self._total = self._done + len(trials) * len(places)
        arms = sorted(trials, key=lambda arm: -trials[arm][0].seconds)
        found: dict[PlannedTrial, Trial] = {}
        self._train(self._units(arms, places), lambda planned, trial: found.update({planned: trial}))
        for arm, mine in trials.items():
            mine += [found[PlannedTrial(arm, place)] for place in places]

    def _units(self, arms: Sequence[str], places: Sequence[Place]) -> Iterator[Unit]:
        """The trials fold by fold, but for arms of few networks: several folds of them are trained at once.

        What is done together follows from the arms and the folds alone, and not from who is there to do it.
        """
        material = self.bench.material
        sizes = {}
        for name in arms:
            arm = make_arm(name)
            each = len(material.tasks) if arm.is_per_task else 1
            is_stacked = isinstance(arm, NetworkArm) and len(material.data) <= MOST_ROWS
            sizes[name] = max(_TOGETHER // each, 1) if is_stacked else 1
        for i, _ in enumerate(places):
            for name in arms:
                if i % sizes[name] == 0:
                    together = places[i : i + sizes[name]]
                    yield Unit(tuple(PlannedTrial(name, place, self.given.get(name)) for place in together))

    def _train(self, wanted: Iterator[Unit], done: Callable[[PlannedTrial, Trial], None]) -> None:
        """Train what the store does not hold, and tell ``done`` about every trial."""

        def units() -> Iterator[Unit]:
            for unit in wanted:
                for planned in unit.trials:
                    self._keep(planned.place)
                known = [self._load(planned) for planned in unit.trials]
                if None in known:
                    # If the end came while a unit was being written, all of it is trained again: what its members come
                    # to depends, in the last digits, on all of them.
                    self._running[str(unit)] = ""
                    self._tell()
                    yield unit
                    continue
                self._done += len(known)
                for planned, trial in zip(unit.trials, known, strict=True):
                    assert trial is not None
                    done(planned, trial)

        for unit, results in self.engine.carry_out(units()):
            assert isinstance(unit, Unit)
            assert isinstance(results, list)
            del self._running[str(unit)]
            for planned, (trial, answers) in zip(unit.trials, results, strict=True):
                if self._load(planned) is None:
                    keep_trial(self.store, trial, answers, planned.place.repeat, planned.place.fold)
                self._done += 1
                done(planned, self._load(planned) or trial)
            self.bench.material.finished(unit).forget()
            self._tell()

    def _tell(self) -> None:
        if self._running:
            titles = (f"{trial} ({far})" if far else trial for trial, far in self._running.items())
            self.listener(" | ".join(titles), self._done, self._total)

    def _far(self, unit: Work, text: str) -> None:
        self._running[str(unit)] = text
        self._tell()

    def _keep(self, place: Place) -> KeptFold:
        """The fold as it is kept; asked of the bench if the store does not hold it yet."""
        if place not in self._kept:
            known = load_fold(self.store, place.repeat, place.fold)
            if known is None:
                known = keep_fold(self.store, self.bench.fold(place)[0])
            self._kept[place] = known
        return self._kept[place]

    def _load(self, planned: PlannedTrial) -> Trial | None:
        trial = load_trial(self.store, planned.arm, planned.place.repeat, planned.place.fold)
        if trial is not None and planned.arm in self._searching and planned.arm not in self.given:
            # With less time it used what was found on the first fold; now there is room for a search of its own.
            return None if not (trial.why_not or trial.search) else trial
        return trial
