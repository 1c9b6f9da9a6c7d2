"""How a study looks in a terminal: verdicts in words, arms beside tasks, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polytask.wording import counted

if TYPE_CHECKING:
    from polytask.records import StudyRecord

__all__ = ["print_study"]


def print_study(record: StudyRecord) -> None:
    """A study in the terminal: verdicts in words, arms x tasks, recommendation, what was left out."""
    from polytask.cli.terminal import say
    from polytask.report.words import by_reason, is_of_stacks, unmet

    if missing := unmet(record.settings.get("by_name") or (), record.left_out):
        say(missing)
    if not record.verdicts:
        say("No verdict: it takes the arms joint and single, and more than one task.")
    elif len(record.tasks) > _MOST_VERDICTS:
        _say_counts(record)
    else:
        for verdict in record.verdicts.values():
            say(verdict.words)
    say("")
    say(record.recommendation.words)
    _print_arms(record)
    for note in dict.fromkeys(task.note for task in record.tasks.values() if task.note):
        say(f"Note: {note}")
    for warning in record.warnings:
        say(f"{str(warning['severity']).capitalize()}: {warning['words']}")
    short = [arm for arm, reason in record.left_out.items() if " budget" in reason]
    if short:
        say(
            f"Left out for want of time: {', '.join(short)}; the record says of each what it would take. With a larger "
            "--budget, and --resume of the same --out, they are trained too."
        )
    for reason, arms in by_reason({a: why for a, why in record.left_out.items() if a not in short}).items():
        say(f"Left out: {', '.join(arms)}: {reason}")
    for arm, found in record.search.items():
        say(f"Search: {arm}: {found['where']}")
        say(f"  {_tried(found['folds'][0])}")
    for arm, curves in record.sharing_curves.items():
        chosen = ", ".join(f"{curve['chosen']:g}" for curve in curves)
        say(f"Sharing ratio: {arm}: {chosen} in the folds, by cross-validation inside each.")
    for arm, result in record.arms.items():
        for text in result.notes:
            if not is_of_stacks(text):
                say(f"Note: {arm}: {text}")
    for unit in record.engine.get("deaths", ()):
        say(f"Note: the worker of {unit} died, and it was trained again.")
    absent = [(fold, task, reason) for fold in record.folds for task, reason in fold.absent.items()]
    for fold, task, reason in absent[:_MOST_NOTES]:
        say(f"Note: {task} is absent from repetition {fold.repeat + 1}, fold {fold.fold + 1}: {reason}")
    if len(absent) > _MOST_NOTES:
        say(f"Note: the record has {counted(len(absent) - _MOST_NOTES, 'more absence')} of a task from a fold.")


def _tried(search: Mapping[str, Any]) -> str:
    """A search in a line."""
    from polytask.report.words import configuration

    start = "" if search["start"] is None else f", {search['start']:.3f} where it began"
    return (
        f"First fold: {search['done']} of {counted(search['asked'], 'trial')}, {search['pruned']} of them cut short; "
        f"best error {search['best']['score']:.3f}{start}: {configuration(search['best']['configuration'])}."
    )


_MOST_VERDICTS = 16
_MOST_TASKS = 8
_MOST_NOTES = 8
_EXTREMES = 3
"""So many of the tasks that gained most and least are shown where there are too many to show all."""


def _say_counts(record: StudyRecord) -> None:
    """Verdicts of very many tasks: how many of each, and the clearest."""
    from polytask.cli.terminal import say

    found = record.verdicts.values()
    counts = {what: sum(v.verdict == what for v in found) for what in ("helped", "hurt", "no evidence")}
    say(f"{len(found)} tasks: " + ", ".join(f"{what}: {count}" for what, count in counts.items()) + ".")
    known = sorted((v for v in found if v.gain is not None), key=lambda v: -(v.gain or 0.0))
    ahead = sum((v.gain or 0.0) > 0 for v in known)
    say(f"The joint model's error is smaller than alone on {counted(ahead, 'task')}, larger on {len(known) - ahead}.")
    for title, some in (("Largest gains", known[:_EXTREMES]), ("Largest losses", known[::-1][:_EXTREMES])):
        say(f"{title}:")
        for verdict in some:
            say(f"  {verdict.words}")


def _print_arms(record: StudyRecord) -> None:
    """Arms x tasks; of very many tasks only the mean, the best and the worst."""
    from polytask.cli.terminal import print_table

    names, chosen = list(record.tasks), record.recommendation
    entries = [(arm, r.error, r.mean_rank, r.gain, r.seconds) for arm, r in record.arms.items()]
    is_short = len(names) <= _MOST_TASKS
    rows: list[list[Any]] = []
    for arm, errors, rank, gain, seconds in [
        *entries,
        ("recommended", chosen.error, chosen.mean_rank, chosen.gain, None),
    ]:
        by_task = [_shown(errors[task]) for task in names] if is_short else _ends(errors)
        rows.append([arm, _mean(errors, names), *by_task, rank, _percent(gain), seconds])
    tests = counted(len(record.folds), "fold")
    title = (
        f"Relative error on test rows, ± half its 95 % interval: 0 is perfect, 1 is as good as the best constant "
        f"({tests}, {counted(len(names), 'task')})"
    )
    between = names if is_short else ["best task", "worst task"]
    print_table(["arm", "mean", *between, "mean rank", "gain", "training s"], rows, title=title)


def _mean(errors: Mapping[str, Any], names: Sequence[str]) -> str | None:
    known = [errors[task].mean for task in names if errors[task].mean is not None]
    if not known:
        return None
    rest = "" if len(known) == len(names) else f" ({len(known)} of {len(names)})"
    return f"{sum(known) / len(known):.3f}{rest}"


def _ends(errors: Mapping[str, Any]) -> list[str | None]:
    """The tasks with the smallest and the largest error."""
    known = sorted((interval.mean, task) for task, interval in errors.items() if interval.mean is not None)
    return [f"{task} {value:.3f}" for value, task in (known[0], known[-1])] if known else [None, None]


def _shown(interval: Any) -> str | None:
    if interval.mean is None:
        return None
    if interval.low is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ± {(interval.high - interval.low) / 2:.3f}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:+.1f} %"
