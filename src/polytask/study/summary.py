"""From trials to the study record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from polytask.records import ArmResult, Interval, Recommendation, StudyTask, Verdict, without_nan
from polytask.study.choice import Chosen
from polytask.study.naming import make_arm
from polytask.study.outcome import Outcome
from polytask.study.pictures import calibration, residuals, risk_calibration
from polytask.study.scores import name_of
from polytask.study.statistics import gain_of, interval_of, mean_ranks, place_among
from polytask.study.verdicts import judge
from polytask.tasks.survival import Survival
from polytask.tasks.task import Task

__all__ = [
    "FIXED_FORMULAS",
    "FORMULAS",
    "arm_results",
    "pictures",
    "recommendation",
    "searches",
    "sharing_curves",
    "study_tasks",
    "verdicts",
]

FORMULAS: Mapping[str, str] = {
    "relative error": (
        "Mean error of the answers on the test rows (squared error, log loss, deviance or pinball loss) over that of "
        "the best constant of the training labels: 0 is perfect, 1 is no skill."
    ),
    "gain": "100 % x (mean relative error alone - mean relative error jointly) / mean relative error alone.",
    "verdict": (
        "Corrected resampled t test (Nadeau & Bengio 2003) of the paired differences of the relative errors over folds "
        "and repetitions, two-sided; p values corrected for the number of tasks (Holm 1979); helped or hurt at 5 %."
    ),
    "interval": "95 % interval of the same test, for one task on its own.",
    "mean rank": (
        "Rank of an arm by its mean relative error among the arms that serve a task on every fold (1 is best, ties "
        "share their ranks), a mean over tasks. The recommendation is made of arms and is no further rival: its rank "
        "is the place that it would take among them, 1 + the number of arms with a smaller error."
    ),
    "overall gain": (
        "Mean over tasks of 100 % x (s - e) / ((s + e) / 2), with the mean relative errors e of the arm and s of the "
        "single models: between -200 % and 200 %, and defined for errors of zero."
    ),
    "recommendation": (
        "For every task, the mean of those arms that may be the best by their validation losses over all tasks (that "
        "the same arms serve): no more than one standard error behind the best, four arms at most. Another arm, the "
        "mean of two, or the constant serves a task where it is better by more than two standard errors. A task whose "
        "answers have no mean (tags, boxes) is served by one arm alone. If rows come in groups, standard errors are "
        "those of means over whole groups, and the constant serves every task where nothing is better than it by more "
        "than two of them. "
        "The error of the recommendation comes from making this choice anew inside each fold."
    ),
}

FIXED_FORMULAS: Mapping[str, str] = {
    "verdict": (
        "Difference of the losses of the test labels, alone less jointly, over the mean loss of the best constant; "
        "its error by a paired bootstrap over test rows (whole groups, if there are any) and the variance between "
        "seeds, with room for the luck of one set of training rows; p values corrected for the number of tasks (Holm "
        "1979); helped or hurt at 5 %."
    ),
}
"""What is different where the same rows are tested in every repetition."""


def study_tasks(
    tasks: Sequence[Task], observed: Mapping[str, np.ndarray], notes: Mapping[str, str]
) -> dict[str, StudyTask]:
    """The tasks as the record has them."""
    return {
        task.name: StudyTask(
            kind=task.kind,
            metric=task.metrics[0].name,
            higher_is_better=task.metrics[0].higher_is_better,
            n_labels=int(observed[task.name].sum()),
            n_rows=len(observed[task.name]),
            levels=_levels(task),
            note=notes.get(task.name, ""),
        )
        for task in tasks
    }


def arm_results(outcome: Outcome) -> dict[str, ArmResult]:
    """What every arm did."""
    arms, names = list(outcome.trials), outcome.names
    table = np.array([[outcome.mean_error(arm, task) for task in names] for arm in arms])
    ranks = mean_ranks(table)
    baseline = dict(zip(names, table[arms.index("single")], strict=True)) if "single" in arms else {}
    found = {}
    for position, arm in enumerate(arms):
        made, trials = make_arm(arm), [trial for trial in outcome.trials[arm] if not trial.why_not]
        errors = {task: outcome.errors(arm, task) for task in names}
        own = dict(zip(names, table[position], strict=True))
        found[arm] = ArmResult(
            role=made.role,
            words=made.words,
            errors={task: _plain(values) for task, values in errors.items()},
            error={t: outcome.interval(v, [(arm,)] * len(outcome.folds), t) for t, v in errors.items()},
            metrics={task: _metrics(outcome, arm, task) for task in names},
            mean_rank=_number(ranks[position]),
            gain=None if arm == "single" else gain_of(_known(own), _known(baseline)),
            seconds=_mean([trial.seconds for trial in trials]),
            predict_seconds=_mean([trial.predict_seconds for trial in trials]),
            parameters=_mean([trial.parameters for trial in trials]),
            notes=_notes(outcome, arm),
        )
    return found


def verdicts(outcome: Outcome, recommended: Mapping[str, str]) -> dict[str, Verdict]:
    """The joint arm against the single one, task by task; nothing if one of them did not run."""
    if not {"joint", "single"} <= set(outcome.trials):
        return {}
    pairs = {task: outcome.pairs("joint", "single", task) for task in outcome.names}
    return judge(pairs, "joint", "single", recommended)


def recommendation(outcome: Outcome, chosen: Chosen, results: Mapping[str, ArmResult]) -> Recommendation:
    """Which arm for which task, and its honest score."""
    names = outcome.names
    own = {task: _mean_there(chosen.errors[task]) for task in names}
    table = np.array([[outcome.mean_error(arm, task) for task in names] for arm in outcome.trials])
    baseline = {task: outcome.mean_error("single", task) for task in names} if "single" in outcome.trials else {}
    outsiders = {
        arm: np.array([outcome.mean_error(arm, task) for task in names])
        for arm, result in results.items()
        if result.role == "outsider"
    }
    best = min(outsiders, key=lambda arm: (np.isnan(outsiders[arm]).sum(), _mean_there(outsiders[arm])), default=None)
    arms = {task: name_of(chosen.final[task]) for task in names if task in chosen.final}
    return Recommendation(
        arms=arms,
        words=_words(arms),
        errors={task: _plain(np.array(values)) for task, values in chosen.errors.items()},
        error={t: outcome.interval(chosen.errors[t], [by.get(t) for by in chosen.inside], t) for t in names},
        mean_rank=_number(place_among(table, np.array([own[task] for task in names]))),
        gain=gain_of(_known(own), _known(baseline)),
        chosen=chosen.counts,
        best_outsider=best,
    )


def pictures(outcome: Outcome, chosen: Chosen, seed: int) -> dict[str, Any]:
    """What the first fold shows of each arm; calibration and residuals of what is recommended."""
    first = {arm: trials[0] for arm, trials in outcome.trials.items()}
    once = [scores for scores in outcome.scores if scores.kept.record.repeat == 0]
    drawn: dict[str, Any] = {"calibration": {}, "residuals": {}}
    for task in outcome.tasks:
        if task.name not in chosen.final:
            continue
        if isinstance(task, Survival):
            drawn["calibration"][task.name] = risk_calibration(once, chosen.final[task.name], task.name)
        elif task.has_probabilities:
            drawn["calibration"][task.name] = calibration(once, chosen.final[task.name], task.name)
        elif task.is_number:
            drawn["residuals"][task.name] = residuals(once, chosen.final[task.name], task.name, seed)
    for what in ("curves", "weights", "conflict", "gates", "affinity"):
        drawn[what] = {arm: getattr(trial, what) for arm, trial in first.items() if getattr(trial, what)}
    return drawn


def searches(outcome: Outcome, given: Collection[str]) -> dict[str, Any]:
    """Per arm that searched, what it tried and found on each fold; of folds but the first, without every trial.

    Args:
        outcome: Everything that was trained.
        given: Arms that searched on the first fold only.
    """
    found: dict[str, Any] = {}
    for arm, trials in outcome.trials.items():
        mine = [trial.search for trial in trials if "trials" in trial.search]
        if not mine:
            continue
        brief = [{key: s[key] for key in s if key not in ("space", "trials")} for s in mine]
        where = _FIRST_ONLY if arm in given else _EACH_FOLD
        found[arm] = {"where": where, "folds": brief, "space": mine[0].get("space", {}), "trials": mine[0]["trials"]}
    return found


def sharing_curves(outcome: Outcome) -> dict[str, Any]:
    """Per arm that cross-validated its sharing ratio, the curve of each fold."""
    found = {arm: [t.search["curve"] for t in trials if "curve" in t.search] for arm, trials in outcome.trials.items()}
    return {arm: curves for arm, curves in found.items() if curves}


_EACH_FOLD = (
    "Searched anew inside each fold, on its training rows alone, which were divided once more for it; what was found "
    "was then trained on them and tested on the fold's test rows."
)
_FIRST_ONLY = (
    "The budget had no room for a search in each fold. Searched on the training rows of the first fold, and what was "
    "found there was used on all. Test rows of the other folds were among those training rows, so that the errors "
    "there may be a little too small."
)


def _words(arms: Mapping[str, str]) -> str:
    """Which arm for which tasks.

    Example:
        >>> _words({"a": "joint", "b": "boosting + joint", "c": "joint"})
        'Use joint for a and c; the mean of boosting and joint for b.'
        >>> _words({f"school {i}": "joint" if i < 100 else "linear" for i in range(102)})
        'Use joint for 100 of the 102 tasks; linear for school 100 and school 101.'
    """
    groups: dict[str, list[str]] = {}
    for task, arm in arms.items():
        groups.setdefault(arm, []).append(task)
    parts: list[str] = []
    for arm, tasks in sorted(groups.items(), key=lambda group: -len(group[1])) if len(arms) > _FEW else groups.items():
        who = _listed(tasks)
        if len(tasks) > 6 and len(groups) == 1:
            who = f"all {len(tasks)} tasks"
        elif len(tasks) > 3 and len(arms) > _FEW:
            who = f"{len(tasks)} of the {len(arms)} tasks" if not parts else f"{len(tasks)}"
        several = arm.split(" + ")
        what = f"the mean of {_listed(several)}" if len(several) > 1 else arm
        parts.append(f"{_CONSTANT if arm == 'constant' else what} for {who}")
    return "Use " + "; ".join(parts) + "." if parts else "Nothing can be recommended."


_FEW = 12
"""Of more tasks, their numbers are said and not their names."""
_CONSTANT = "the constant (nothing is clearly better)"


def _listed(names: Sequence[str], most: int = 6) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _metrics(outcome: Outcome, arm: str, task: str) -> dict[str, Interval]:
    measured = [trial.metrics.get(task) for trial in outcome.trials[arm]]
    names = dict.fromkeys(name for metrics in measured if metrics for name in metrics)
    found = {
        name: interval_of([metrics.get(name) if metrics else None for metrics in measured], outcome.test_share)
        for name in names
    }
    # Of a fixed split, the spread between seeds would hide that the test rows are few.
    return {name: Interval(i.mean, None, None) for name, i in found.items()} if outcome.is_fixed else found


def _notes(outcome: Outcome, arm: str) -> tuple[str, ...]:
    notes = dict.fromkeys(note for trial in outcome.trials[arm] for note in trial.notes)
    for fold, trial in zip(outcome.folds, outcome.trials[arm], strict=True):
        if trial.why_not:
            notes[f"Repetition {fold.repeat + 1}, fold {fold.fold + 1}: not trained; {trial.why_not}."] = None
    trained = [(f, trial) for f, trial in zip(outcome.folds, outcome.trials[arm], strict=True) if not trial.why_not]
    unserved = [
        task
        for task in outcome.names
        if any(task not in fold.absent and trial.error(task) is None for fold, trial in trained)
    ]
    kinds = {task.name: task.kind for task in outcome.tasks}
    never = {task for task in unserved if all(trial.error(task) is None for _, trial in trained)}
    for kind in dict.fromkeys(kinds[task] for task in unserved):
        mine = [task for task in unserved if kinds[task] == kind]
        if never >= {task for task in outcome.names if kinds[task] == kind}:
            notes[f"Does not serve kind {kind!r} ({_listed(mine)})."] = None
        else:
            notes[f"Does not serve {_listed(mine)} on every fold."] = None
    return tuple(notes)


def _levels(task: Task) -> tuple[Any, ...]:
    if not task.has_probabilities:
        return ()
    labels: tuple[Any, ...] = task.decode(task.initial_bias()[None]).labels
    return labels


def _plain(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(without_nan([float(value) for value in values]))


def _known(errors: Mapping[str, float]) -> dict[str, float | None]:
    return {task: _number(error) for task, error in errors.items()}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _mean_there(values: Sequence[float] | np.ndarray) -> float:
    there = np.asarray(values, dtype=np.float64)
    there = there[~np.isnan(there)]
    return float(there.mean()) if len(there) else np.nan
