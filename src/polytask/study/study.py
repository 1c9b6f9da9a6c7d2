"""The study: every arm on the same folds, a verdict for each task, a recommendation, one bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from polytask.bundle import Bundle, load
from polytask.errors import RecipeError, UnknownNameError
from polytask.recipe import Recipe
from polytask.records import StudyRecord, Verdict, without_nan
from polytask.storage import write_json
from polytask.study.arms import registry as known_arms
from polytask.study.bench import Bench, Material
from polytask.study.budget import DEFAULT_ARMS, NEEDED, seconds_of, with_search
from polytask.study.choice import choose_all
from polytask.study.data_notes import data_notes
from polytask.study.engine import Engine
from polytask.study.engines import registry as engines
from polytask.study.final import final_bundle, lost_stops
from polytask.study.finished import FinishedNetworks
from polytask.study.folds import Protocol
from polytask.study.leakage import leak_warnings
from polytask.study.naming import make_arm
from polytask.study.opening import LongData, Question, open_question, study_recipe
from polytask.study.outcome import Outcome
from polytask.study.pictures import coverage
from polytask.study.store import Store
from polytask.study.summary import (
    FIXED_FORMULAS,
    FORMULAS,
    arm_results,
    pictures,
    recommendation,
    searches,
    sharing_curves,
    study_tasks,
    verdicts,
)
from polytask.study.terms import SEARCHED, Terms
from polytask.study.threads import limited_threads
from polytask.study.trainings import Listener, Trainings
from polytask.study.warning import warning
from polytask.training.opening import controls_of
from polytask.training.run_folder import RunFolder, environment

__all__ = ["Study"]

_FEWEST_LABELS = 10
"""Fewest labels of a value of ``by``; and two a fold."""


class Study:
    """Finds out whether learning several targets jointly is better, task by task, and how sure that is.

    Args:
        data: A table (a path, a data frame), or a :class:`~polytask.training.data_sets.DataSet`; several of them by
            name, each a source with rows and tasks of its own; or a :class:`polytask.Recipe` that names its files.
        targets: Target columns; or options by task name, as in :class:`polytask.Recipe`, ``source`` among them where
            several sources have a column of that name; ``None`` for a recipe, which names its own.
        arms: Names of the arms; the default ones, as many as the budget allows, if ``None``.
        budget: Time for all trainings: seconds, ``"90s"``, ``"10m"``, ``"1h"``; no limit if ``None``.
        protocol: How rows are divided.
        by: Column that says which task a row is of, such as the school of a pupil: each of its values is a task of its
            own for each target, and its rows are the rows of that value.
        out: Folder for trials, record and bundle; nothing is written if ``None``.
        resume: Go on in a folder that exists.
        engine: Where trials are trained: a name in ``polytask list engines``, or ``{"name", "workers", "threads"}``; in
            this process if ``None``.
        search: Adds arms that search inside each fold: ``{"trials": 50, "objective": "mean"}``, see
            :class:`~polytask.study.terms.Terms`; none is added if ``None``.
        listener: Told about every trial.
        **settings: Settings of :class:`polytask.Recipe` for the networks and the data: ``encoder``, ``sharing``,
            ``training``, ``head_hidden``; ``inputs`` and ``drop`` of the table.

    Raises:
        PolytaskError: If data or settings cannot be used.

    Example:
        >>> from polytask.data.generators import related_regressions
        >>> made = related_regressions(2, 120, n_inputs=4)
        >>> study = Study(made.frame, ["y0", "y1"], arms=["single", "joint", "linear"],
        ...               protocol=Protocol(folds=3), training={"epochs": 2})
        >>> sorted(study.run().verdicts)
        ['y0', 'y1']
        >>> study.bundle.predict(made.frame[:2])["y0"].values.shape
        (2,)

    Note:
        Every trial is written when it is done. A study that was interrupted goes on with ``resume=True`` without
        training anything twice, and ends with the same record but for times. With a larger budget it goes on with
        what there was no time for. The engine and its number of workers change times only, and so with a budget what
        there is time for; the number of threads of a trial is part of the question, because sums depend on it.
    """

    def __init__(
        self,
        data: Any,
        targets: Any = None,
        *,
        arms: Sequence[str] | None = None,
        budget: float | str | None = None,
        protocol: Protocol | None = None,
        by: str | None = None,
        out: str | Path | None = None,
        resume: bool = False,
        engine: str | Mapping[str, Any] | None = None,
        search: Mapping[str, Any] | None = None,
        listener: Listener | None = None,
        **settings: Any,
    ):
        self.protocol = protocol or Protocol()
        self.seconds = seconds_of(budget)
        for name in search or ():
            if name not in ("trials", "objective"):
                raise UnknownNameError("setting of a search", name, ("trials", "objective"))
        self.terms = Terms(**(search or {}))
        asked = arms if arms is not None else DEFAULT_ARMS
        self.arm_names = tuple(dict.fromkeys(asked if search is None else with_search(asked)))
        # Arms that were asked for by name are run whatever the budget is.
        self._needed = NEEDED if arms is None else tuple(arms)
        self._by_name = [*(arms or ()), *(SEARCHED if search is not None else ())]
        if not [make_arm(name) for name in self.arm_names]:
            raise RecipeError(f"A study needs at least one arm, got none. Arms: {', '.join(known_arms.names())}.")
        self.by = by
        hidden = (*self.protocol.columns, *((by,) if by else ()))
        self.recipe = study_recipe(data, targets, {**settings, "seed": self.protocol.seed}, hidden)
        self.engine = _engine(engine)
        self.folder = RunFolder(out) if out is not None else None
        self.resume = resume
        self.listener = listener or (lambda *_: None)
        self._given = None if isinstance(data, Recipe) else data
        self._record: StudyRecord | None = None
        self._bundle: Bundle | None = None

    @property
    def record(self) -> StudyRecord:
        """What was found.

        Raises:
            RecipeError: Before :meth:`run`.
        """
        if self._record is None:
            raise RecipeError("The study has not run yet; call run().")
        return self._record

    @property
    def verdicts(self) -> Mapping[str, Verdict]:
        """The verdict on each task."""
        return self.record.verdicts

    @property
    def bundle(self) -> Bundle:
        """The recommended models, learned from all rows.

        Raises:
            RecipeError: Before :meth:`run`.
        """
        if self._bundle is None:
            raise RecipeError("The study has not run yet; call run().")
        return self._bundle

    def run(self) -> StudyRecord:
        """Train all arms on all folds, judge, recommend, and train what is recommended on all rows.

        Raises:
            PolytaskError: If data or settings cannot be used, or the folder is in use.
        """
        try:
            with self.engine, limited_threads(self.engine.threads):
                return self._run()
        finally:
            if self.folder is not None:
                self.folder.close()

    def _run(self) -> StudyRecord:
        question = self._open()
        data, tasks, observed = question.data, question.tasks, question.observed
        first = self.protocol.splits(data, tasks)[0][2]
        leaks = leak_warnings(data, tasks, self.protocol.group, self.protocol.time, first)
        warnings = [*leaks, *question.warnings, *lost_stops(controls_of(self.recipe))]
        networks = self.folder.path.resolve() / "networks" if self.folder else None
        bench = Bench(Material(data, tasks, self.recipe, self.protocol, self._terms(), networks))
        if not (self.resume and self.folder is not None and (self.folder.path / "folds").exists()):
            bench.check(self.arm_names)  # before anything is written that another command could not go on with
        self.engine.open(bench)
        store = Store(self.folder.path if self.folder else None)
        trainings = Trainings(bench, self.arm_names, self.seconds, self._needed, store, self.engine, self.listener)
        outcome = trainings.run()
        warnings += data_notes([scores.kept for scores in outcome.scores])
        if trainings.overrun:
            warnings.append(warning("budget", "note", trainings.overrun))
        chosen = choose_all(outcome.scores, list(outcome.trials), outcome.names)
        results = arm_results(outcome)
        recommended = recommendation(outcome, chosen, results)
        described = data.describe()
        self._record = StudyRecord(
            tasks=study_tasks(tasks, observed, question.notes),
            folds=tuple(outcome.folds),
            arms=results,
            verdicts=verdicts(outcome, recommended.arms),
            recommendation=recommended,
            left_out=trainings.left_out,
            warnings=tuple(warnings),
            coverage=coverage(observed),
            formulas={**FORMULAS, **(FIXED_FORMULAS if outcome.is_fixed else {})},
            data=described,
            settings={**self._asked(), "by_name": self._by_name},
            environment=environment(),
            engine=self.engine.describe(),
            seconds=round(sum(trial.seconds for trials in outcome.trials.values() for trial in trials), 3),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            search=searches(outcome, trainings.given),
            sharing_curves=sharing_curves(outcome),
            **pictures(outcome, chosen, self.protocol.seed),
        )
        self._finish(bench, outcome, chosen.final)
        return self.record

    def _open(self) -> Question:
        """The data and the tasks; the folder is opened for them."""
        question = open_question(self.recipe, self._given, self.by, fewest=max(_FEWEST_LABELS, 2 * self.protocol.folds))
        if self.folder is not None:
            described = {"study": self._asked(), "data": question.data.describe()}
            # More time is no other question: what there was no time for is trained then.
            self.folder.open(without_nan(described), resume=self.resume, free=("study.budget",))
        return question

    def _terms(self) -> Terms:
        """The terms of searches: the two of them together have half of the budget's time on the clock."""
        share = 0.25 * min(self.engine.workers, 2)
        seconds = None if self.seconds is None else share * self.seconds
        return replace(
            self.terms, seconds=seconds, folder=self.folder.path.resolve() / "search" if self.folder else None
        )

    def _asked(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.plain(),
            "arms": list(self.arm_names),
            "budget": self.seconds,
            "by": self.by,
            "search": {"trials": self.terms.trials, "objective": self.terms.objective},
            "threads": self.engine.threads,
            **asdict(self.protocol),
        }

    def _finish(self, bench: Bench, outcome: Outcome, chosen: Mapping[str, Any]) -> None:
        record = self.record
        self._bundle = self._kept_bundle(record)
        if self._bundle is None:
            provenance = {
                "study": record.settings,
                "recommendation": record.recommendation.arms,
                "data": record.data,
                "environment": record.environment,
                "made": record.made,
            }
            material = bench.material
            self._bundle = final_bundle(
                bench.whole, chosen, outcome.trials, provenance, self.engine, partial(self.listener, "final models")
            )
            # A worker may have died over a final model.
            self._record = record = replace(record, engine=self.engine.describe())
            if isinstance(material.data, LongData):
                self._bundle.by = {"column": self.by, "tasks": material.data.long.task_of}
            self._bundle.metrics = _metrics(record)
            if self.folder is not None:
                self._bundle.save(self.folder.bundle_path)
                FinishedNetworks(bench.material.folder).forget()
        if self.folder is not None:
            write_json(self.folder.path / "study.json", record.to_json())

    def _kept_bundle(self, record: StudyRecord) -> Bundle | None:
        """The bundle that the folder holds; one that came of other folds or arms, in other time, is taken away."""
        if self.folder is None or not (file := self.folder.bundle_path / "bundle.json").exists():
            return None
        kept = load(self.folder.bundle_path)
        if kept.provenance.get("recommendation") == record.recommendation.arms and kept.metrics == _metrics(record):
            return kept
        file.unlink()
        return None


def _metrics(record: StudyRecord) -> dict[str, dict[str, float | None]]:
    """What a bundle says of its tasks."""
    return {task: {"relative_error": interval.mean} for task, interval in record.recommendation.error.items()}


def _engine(asked: str | Mapping[str, Any] | None) -> Engine:
    """The engine that was asked for; one worker, which is this process, if none was."""
    options: dict[str, Any] = {"name": asked or "local"} if not isinstance(asked, Mapping) else dict(asked)
    if asked is None:
        options["workers"] = 1
    made: Engine = engines.create(options.pop("name"), **options)
    return made
