"""``polytask study``: is learning jointly better, task by task, and how sure is that?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli.options import method_options, separated, task_options

if TYPE_CHECKING:
    from polytask.records import StudyRecord

__all__ = ["study"]


def study(
    data: Annotated[Path, typer.Argument(help="A table: CSV, Parquet, Arrow.")],
    targets: Annotated[
        str, typer.Option(help="Target columns: a,b,c. Give a kind with a colon: visits:count,price:regression.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for trials, record, page and models.")] = None,
    group: Annotated[str, typer.Option(help="Column of groups (patient, user): no group is on both sides.")] = "",
    time: Annotated[str, typer.Option(help="Column of times: tested on what came later.")] = "",
    budget: Annotated[str, typer.Option(help="Time for all trainings: 90s, 10m, 1h; none for no limit.")] = "10m",
    arms: Annotated[
        str, typer.Option(help="Arms: joint,single,boosting,joint:mmoe@0.5+pcgrad. polytask list arms.")
    ] = "",
    folds: Annotated[int, typer.Option(help="Every row is tested once in so many folds.", min=2)] = 5,
    repeats: Annotated[int, typer.Option(help="Repetitions of the folds; more if the budget has room.", min=1)] = 1,
    inputs: Annotated[str, typer.Option(help="Input columns: x,y. All but targets and dropped ones if left out.")] = "",
    drop: Annotated[str, typer.Option(help="Columns that no task may read: id,name.")] = "",
    seed: Annotated[int, typer.Option(help="Of folds and trainings.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of the networks: --set training.epochs=20 --set sharing.ratio=0.5."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on in a folder that exists.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the record as JSON, and nothing else.")] = False,
) -> None:
    """Compare joint, single and other models on the same folds; say where joint learning helps; keep the best.

    Example: polytask study patients.csv --targets motor,total --group patient --budget 10m --out runs/study
    """
    import json

    from polytask.cli.terminal import say
    from polytask.study import Protocol, Study

    options = method_options({"tasks": task_options(targets)}, settings or [])
    tasks = options.pop("tasks")
    if inputs:
        options["inputs"] = separated(inputs)
    if drop:
        options["drop"] = separated(drop)
    bar = TrialBar()
    made = Study(
        data,
        tasks,
        arms=separated(arms) or None,
        budget=None if budget.strip().lower() == "none" else budget,
        protocol=Protocol(folds=folds, repeats=repeats, group=group or None, time=time or None, seed=seed),
        out=out,
        resume=resume,
        listener=bar,
        **options,
    )
    try:
        record = made.run()
    finally:
        bar.stop()
    if json_output:
        say(json.dumps(record.to_json(), ensure_ascii=False))
    else:
        print_study(record)
    page = _write_page(record, out)
    if not json_output:
        _say_where(out, page)


class TrialBar:
    """A bar of trials done and left, on standard error; a line a trial where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar: Any = None

    def __call__(self, title: str, done: int, total: int) -> None:
        """A trial begins."""
        if not self._console.is_terminal:
            self._console.print(f"{done} of {total} trials done; next: {title}", highlight=False)
            return
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
            self._bar = Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True)
            self._task = self._bar.add_task(title, total=total)
            self._bar.start()
        self._bar.update(self._task, description=title, completed=done, total=total)

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()


def print_study(record: StudyRecord) -> None:
    """A study in the terminal: verdicts in words, arms x tasks, recommendation, what was left out."""
    from polytask.cli.terminal import print_table, say

    for verdict in record.verdicts.values():
        say(verdict.words)
    if not record.verdicts:
        say("No verdict: it takes the arms joint and single, and more than one task.")
    say("")
    say(record.recommendation.words)
    names = list(record.tasks)
    shown = names[:_MOST_TASKS]
    rows: list[list[Any]] = []
    for arm, result in record.arms.items():
        errors = [_shown(result.error[task]) for task in shown]
        rows.append([arm, *errors, result.mean_rank, _percent(result.gain), result.seconds])
    chosen = record.recommendation
    rows.append(
        ["recommended", *(_shown(chosen.error[t]) for t in shown), chosen.mean_rank, _percent(chosen.gain), None]
    )
    more = f"; {len(names) - len(shown)} more tasks in the record" if len(shown) < len(names) else ""
    print_table(
        ["arm", *shown, "mean rank", "gain", "fit s"],
        rows,
        title=f"Relative error on test rows, 0 is perfect, 1 is no skill ({len(record.folds)} folds{more})",
    )
    for warning in record.warnings:
        say(f"{str(warning['severity']).capitalize()}: {warning['words']}")
    for arm, reason in record.left_out.items():
        say(f"Left out: {arm}: {reason}")
    for arm, result in record.arms.items():
        for text in result.notes:
            say(f"Note: {arm}: {text}")
    for fold in record.folds:
        for task, reason in fold.absent.items():
            say(f"Note: {task} is absent from repetition {fold.repeat + 1}, fold {fold.fold + 1}: {reason}")


_MOST_TASKS = 8


def _shown(interval: Any) -> str | None:
    if interval.mean is None:
        return None
    if interval.low is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ± {(interval.high - interval.low) / 2:.3f}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:+.1f} %"


def _write_page(record: StudyRecord, out: Path | None) -> Path | None:
    if out is None:
        return None
    from polytask.report import write_page

    page = out / "page.html"
    write_page(record, page)
    return page


def _say_where(out: Path | None, page: Path | None) -> None:
    from polytask.cli.terminal import note, say

    if out is None:
        note("Nothing was saved: give --out to keep record, page and models.")
        return
    say(f"Page: {page}" if page is not None else "")
    say(f"Record: {out / 'study.json'}    Models: {out / 'bundle'}")
    say(f"Predict: polytask predict {out} NEW.csv --out P.csv")
