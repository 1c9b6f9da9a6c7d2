"""The study: every arm on the same folds, a verdict for each task, a recommendation, one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polytask.bundle import Bundle, load
from polytask.data.splits import Split
from polytask.errors import RecipeError
from polytask.recipe import Recipe
from polytask.records import StudyRecord, Verdict, without_nan
from polytask.storage import write_json
from polytask.study.arm import Arm
from polytask.study.budget import DEFAULT_ARMS, NEEDED, Budget, seconds_of
from polytask.study.choice import FoldScores, choose_all
from polytask.study.final import final_bundle
from polytask.study.folds import JudgedFold, Protocol, make_fold, whole_fold
from polytask.study.leakage import leak_warnings
from polytask.study.naming import make_arm
from polytask.study.opening import Question, open_question
from polytask.study.pictures import coverage
from polytask.study.summary import (
    FIXED_FORMULAS,
    FORMULAS,
    Outcome,
    arm_results,
    pictures,
    recommendation,
    study_tasks,
    verdicts,
)
from polytask.study.trials import KeptFold, Store, Trial, keep_fold, load_answers, load_fold, run_trial
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet
from polytask.training.preparation import Prepared
from polytask.training.run import Plan
from polytask.training.run_folder import RunFolder, environment
from polytask.training.running import plan_of

__all__ = ["Study"]

_FEWEST_LABELS = 10
"""Fewest labels of a value of ``by``; and two a fold."""

Listener = Callable[[str, int, int], None]
"""Told what is trained next, how many trials are done, and how many there will be."""


class Study:
    """Finds out whether learning several targets jointly is better, task by task, and how sure that is.

    Args:
        data: A table (a path, a data frame), or a :class:`~polytask.training.data_sets.DataSet`.
        targets: Target columns; or options by task name, as in :class:`polytask.Recipe`.
        arms: Names of the arms; the default ones, as many as the budget allows, if ``None``.
        budget: Time for all trainings: seconds, ``"90s"``, ``"10m"``, ``"1h"``; no limit if ``None``.
        protocol: How rows are divided.
        by: Column that says which task a row is of, such as the school of a pupil: each of its values is a task of its
            own for each target, and its rows are the rows of that value.
        out: Folder for trials, record and bundle; nothing is written if ``None``.
        resume: Go on in a folder that exists.
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
        training anything twice, and ends with the same record but for times.
    """

    def __init__(
        self,
        data: Any,
        targets: Any,
        *,
        arms: Sequence[str] | None = None,
        budget: float | str | None = None,
        protocol: Protocol | None = None,
        by: str | None = None,
        out: str | Path | None = None,
        resume: bool = False,
        listener: Listener | None = None,
        **settings: Any,
    ):
        self.protocol = protocol or Protocol()
        self.seconds = seconds_of(budget)
        self.arm_names = tuple(dict.fromkeys(arms if arms is not None else DEFAULT_ARMS))
        # Arms that were asked for by name are run whatever the budget is.
        self._needed = NEEDED if arms is None else self.arm_names
        self.arms: list[Arm] = [make_arm(name) for name in self.arm_names]
        if not self.arms:
            raise RecipeError("A study needs at least one arm.")
        self.by = by
        hidden = (*self.protocol.columns, *((by,) if by else ()))
        self.recipe = _recipe(data, targets, {**settings, "seed": self.protocol.seed}, hidden)
        self.folder = RunFolder(out) if out is not None else None
        self.resume = resume
        self.listener = listener or (lambda *_: None)
        self._given = data
        self._store = Store(self.folder.path if self.folder else None)
        self._made: tuple[tuple[int, int], JudgedFold] | None = None
        self.left_out: dict[str, str] = {}
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
        question = self._open()
        data, tasks, observed = question.data, question.tasks, question.observed
        first = self.protocol.splits(data, tasks)[0][2]
        leaks = leak_warnings(data, tasks, self.protocol.group, self.protocol.time, first)
        warnings = [*leaks, *question.warnings]
        outcome = self._train(data, tasks)
        chosen = choose_all(outcome.scores, list(outcome.trials), outcome.names)
        results = arm_results(outcome)
        recommended = recommendation(outcome, chosen, results)
        described = data.describe()
        last = [make_arm(arm) for candidate in chosen.final.values() for arm in candidate]
        self._record = StudyRecord(
            tasks=study_tasks(tasks, observed, question.notes),
            folds=tuple(outcome.folds),
            arms=results,
            verdicts=verdicts(outcome, recommended.arms),
            recommendation=recommended,
            left_out=self.left_out,
            warnings=tuple(warnings),
            coverage=coverage(observed),
            formulas={**FORMULAS, **(FIXED_FORMULAS if outcome.is_fixed else {})},
            data=described,
            settings=self._asked(),
            environment=environment(),
            seconds=round(sum(trial.seconds for trials in outcome.trials.values() for trial in trials), 3),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            **pictures(outcome, chosen, self.protocol.seed),
        )
        self.listener(f"final models ({len({arm.name for arm in last})})", 1, 1)
        self._finish(data, tasks, outcome, chosen.final)
        return self._record

    def _open(self) -> Question:
        """The data and the tasks; the folder is opened for them."""
        question = open_question(self.recipe, self._given, self.by, fewest=max(_FEWEST_LABELS, 2 * self.protocol.folds))
        if self.folder is not None:
            described = {"study": self._asked(), "data": question.data.describe()}
            self.folder.open(without_nan(described), resume=self.resume)
        return question

    def _train(self, data: DataSet, tasks: Sequence[Task]) -> Outcome:
        """All trials: first every arm on the first fold, which tells what fits the budget; then fold by fold."""
        splits = self.protocol.splits(data, tasks)
        budget = Budget(self.seconds, len(splits), self._needed)
        kept = [self._kept(data, tasks, *splits[0])]
        trials: dict[str, list[Trial]] = {}
        for position, arm in enumerate(self.arms):
            reason = budget.why_not_try(arm.name)
            if not reason:
                self.listener(arm.name, position, len(self.arms) * len(splits))
                trial = self._trial(arm, data, tasks, kept[0], splits[0])
                reason = trial.why_not or budget.why_not_keep(arm.name, trial.seconds)
            if reason:
                self.left_out[arm.name] = reason
            else:
                trials[arm.name] = [trial]
        if not trials:
            raise RecipeError("No arm could be run: " + "; ".join(f"{a}: {why}" for a, why in self.left_out.items()))
        n_folds = budget.folds()
        self._go_through(data, tasks, splits[1:n_folds], trials, kept)
        if n_folds < len(splits):
            self.left_out[f"{len(splits) - n_folds} of {len(splits)} folds"] = (
                f"all of them would take about {budget.planned:.0f} s of the budget of {self.seconds:.0f} s"
            )
        spent = sum(trial.seconds for found in trials.values() for trial in found)
        may_repeat = self.protocol.may_repeat and n_folds == len(splits)
        repeats = budget.repeats(spent) if may_repeat else 1
        if repeats > 1:
            more = replace(self.protocol, repeats=repeats).splits(data, tasks)[len(splits) :]
            self._go_through(data, tasks, more, trials, kept)
        scores = [
            FoldScores(
                fold,
                {arm: found[i] for arm, found in trials.items()},
                {arm: load_answers(self._store, arm, fold.record.repeat, fold.record.fold) for arm in trials},
            )
            for i, fold in enumerate(kept)
        ]
        return Outcome(tasks, [fold.record for fold in kept], trials, scores, self.protocol.is_fixed)

    def _go_through(
        self,
        data: DataSet,
        tasks: Sequence[Task],
        splits: Sequence[tuple[int, int, Split]],
        trials: dict[str, list[Trial]],
        kept: list[KeptFold],
    ) -> None:
        total = len(trials) * (len(kept) + len(splits))
        for split in splits:
            kept.append(self._kept(data, tasks, *split))
            for name in trials:
                done = sum(len(found) for found in trials.values())
                self.listener(f"{name}, repetition {split[0] + 1}, fold {split[1] + 1}", done, total)
                trials[name].append(self._trial(make_arm(name), data, tasks, kept[-1], split))

    def _kept(self, data: DataSet, tasks: Sequence[Task], repeat: int, fold: int, split: Split) -> KeptFold:
        known = load_fold(self._store, repeat, fold)
        return known if known is not None else keep_fold(self._store, self._fold(data, tasks, repeat, fold, split))

    def _trial(
        self, arm: Arm, data: DataSet, tasks: Sequence[Task], kept: KeptFold, split: tuple[int, int, Split]
    ) -> Trial:
        return run_trial(self._store, arm, kept, lambda: self._fold(data, tasks, *split))

    def _fold(self, data: DataSet, tasks: Sequence[Task], repeat: int, fold: int, split: Split) -> JudgedFold:
        """The fold with its rows; the last one asked for is remembered."""
        where = (repeat, fold)
        if self._made is None or self._made[0] != where:
            seed = self.protocol.seed_of(repeat, fold)
            made = make_fold(data, tasks, self._plan, where, seed, split, self.protocol.group)
            self._made = (where, made)
        return self._made[1]

    def _plan(self, prepared: Prepared) -> Plan:
        return plan_of(self.recipe, prepared)

    def _asked(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.plain(),
            "arms": list(self.arm_names),
            "budget": self.seconds,
            "by": self.by,
            **asdict(self.protocol),
        }

    def _finish(self, data: DataSet, tasks: Sequence[Task], outcome: Outcome, chosen: Mapping[str, Any]) -> None:
        record = self.record
        if self.folder is not None and (self.folder.bundle_path / "bundle.json").exists():
            self._bundle = load(self.folder.bundle_path)
        else:
            provenance = {
                "study": record.settings,
                "recommendation": record.recommendation.arms,
                "data": record.data,
                "environment": record.environment,
                "made": record.made,
            }
            whole = whole_fold(data, tasks, self._plan, self.protocol.seed)
            self._bundle = final_bundle(whole, chosen, outcome.trials, provenance)
            self._bundle.metrics = {
                task: {"relative_error": interval.mean} for task, interval in record.recommendation.error.items()
            }
            if self.folder is not None:
                self._bundle.save(self.folder.bundle_path)
        if self.folder is not None:
            write_json(self.folder.path / "study.json", record.to_json())


def _recipe(data: Any, targets: Any, settings: Mapping[str, Any], columns: Sequence[str]) -> Recipe:
    """The networks' side of the study as a recipe; columns that say how rows are divided are inputs only if named."""
    known = dict(settings)
    source: dict[str, Any] = {
        key: known.pop(key) for key in ("inputs", "drop", "kinds", "scaling", "row_weights") if key in known
    }
    hidden = [column for column in columns if column not in source.get("inputs", ())]
    source["drop"] = [*source.get("drop", ()), *(c for c in hidden if c not in source.get("drop", ()))]
    name = Path(data).stem if isinstance(data, str | Path) else "data"
    if isinstance(data, DataSet):
        name = data.name
    if isinstance(data, str | Path):
        source["path"] = str(data)
    return Recipe(tasks=targets, data={name: source}, **known)
