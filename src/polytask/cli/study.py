"""``polytask study``: is learning jointly better, task by task, and how sure is that?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import asked
from polytask.cli.options import data_and_tasks, separated
from polytask.wording import counted

if TYPE_CHECKING:
    from polytask.records import StudyRecord

__all__ = ["study"]


def study(
    data: asked.Data,
    targets: asked.Targets = "",
    out: Annotated[Path | None, typer.Option(help="Folder for trials, record, page and models.")] = None,
    group: asked.Group = "",
    time: Annotated[str, typer.Option(help="Column of times: tested on what came later.")] = "",
    by: Annotated[
        str, typer.Option(help="Column that says which task a row is of (school, shop): a task for each value.")
    ] = "",
    budget: Annotated[str, typer.Option(help="Time for all trainings: 90s, 10m, 1h; none for no limit.")] = "10m",
    arms: Annotated[
        str, typer.Option(help="Arms: joint,single,boosting,joint:mmoe@0.5+pcgrad. polytask list arms.")
    ] = "",
    folds: Annotated[
        int | None, typer.Option(help="Every row is tested once in so many folds: 5 if left out.", min=2)
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(help="Instead of folds: one share of the rows is for testing; for large data, say 0.2."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Instead of folds: a column that says train, validation or test of each row.")
    ] = "",
    repeats: Annotated[
        int | None,
        typer.Option(
            help="Repetitions of the folds (1, and more if the budget has room), or seeds of a fixed split (3).", min=1
        ),
    ] = None,
    inputs: asked.Inputs = "",
    drop: asked.Drop = "",
    seed: Annotated[int, typer.Option(help="Of folds and trainings.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of the networks: --set training.epochs=20 --set sharing.ratio=0.5; or of the data: "
            "kinds.review=words, reads=photo (networks read this column of files or texts alone), streamed=true.",
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option("--search", help="Search sharing, ratio, balancer, weights, optimiser in each fold."),
    ] = False,
    trials: Annotated[
        int | None,
        typer.Option(
            help="Trainings of each search: 50 if left out. A search is one worker's work: two searches a fold keep "
            "two workers busy.",
            min=1,
        ),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="Of a search: mean error (if left out), or tasks (a front of trade-offs).")
    ] = None,
    engine: Annotated[str, typer.Option(help="Where trials are trained: local, ray. polytask list engines.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes at a time; one a core if left out.", min=1)] = None,
    threads: Annotated[int, typer.Option(help="Threads of each; results depend on it in the last digits.", min=1)] = 1,
    address: Annotated[str, typer.Option(help="Of a running Ray cluster: auto, host:port.")] = "",
    resume: asked.Resume = False,
    json_output: asked.Json = False,
) -> None:
    """Compare joint, single and other models on the same folds; say where joint learning helps; keep the best.

    Example: polytask study patients.csv --targets motor,total --group patient --budget 10m --out runs/study

    A task for each school, one split: polytask study pupils.csv --targets score --by school --holdout 0.2

    Molecules: polytask study assays.csv --targets toxic,soluble --set kinds.smiles=molecule

    Free text: polytask study reviews.csv --targets stars,helpful --set kinds.review=words

    Images, paths from the table's folder on: polytask study shots.csv --targets defect,depth --set kinds.photo=image

    A recipe names the tasks, the networks and the data, several sources too: polytask study recipe.yaml
    """
    import json
    from time import monotonic

    from polytask.cli.terminal import say
    from polytask.cli.verdicts import print_study
    from polytask.study import Protocol, Study

    what, tasks, options = data_and_tasks(data, targets, inputs, drop, settings or [])
    if tasks is None:  # a recipe, which may say how its rows are divided
        group = group or (what.split.column or "" if what.split.method == "grouped" else "")
        time = time or (what.split.column or "" if what.split.method == "time" else "")
    bar, began = TrialBar(), monotonic()
    made = Study(
        what,
        tasks,
        arms=separated(arms) or None,
        budget=None if budget.strip().lower() == "none" else budget,
        by=by or None,
        protocol=Protocol(
            folds=folds or 0,
            repeats=repeats or 0,
            group=group or None,
            time=time or None,
            seed=seed,
            holdout=holdout,
            split=split or None,
        ),
        out=out,
        resume=resume,
        engine={"name": engine, "workers": workers, "threads": threads, **({"address": address} if address else {})},
        search=_search(search, trials=trials, objective=objective),
        listener=bar,
        **options,
    )
    try:
        record = made.run()
    except KeyboardInterrupt as stop:
        where = f"What is finished is in {out}; go on by the same command with --resume." if out else "Nothing is kept."
        raise KeyboardInterrupt(str(stop) or f"Interrupted. {where}") from None
    finally:
        bar.stop()
    if json_output:
        say(json.dumps(record.to_json(), ensure_ascii=False))
    else:
        print_study(record)
        _say_overrun(monotonic() - began, made.seconds)
    page = _write_page(record, out)
    if not json_output:
        _say_where(out, page)


def _search(search: bool, **options: Any) -> dict[str, Any] | None:
    """What was asked of searches; ``None`` if there is none.

    Raises:
        RecipeError: If settings of a search were given, and none was asked for.
    """
    from polytask.errors import RecipeError

    asked = {name: value for name, value in options.items() if value is not None}
    if asked and not search:
        given = " and ".join(f"--{name}" for name in asked)
        raise RecipeError(f"{given} needs a search, and none was asked for: add --search, or leave {given} out.")
    return asked if search else None


_SECONDS = 10.0
"""Without a terminal, how far a long trial is said no more often than this."""


class TrialBar:
    """A bar of trials done and left, on standard error; a line a trial where that is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bar: Any = None
        self._done, self._said = -1, 0.0

    def __call__(self, title: str, done: int, total: int) -> None:
        """A trial begins."""
        if not self._console.is_terminal:
            if done == self._done and time.monotonic() - self._said < _SECONDS:
                return
            self._done, self._said = done, time.monotonic()
            self._console.print(f"{done} of {counted(total, 'trial')} done; next: {title}", highlight=False)
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


def _say_overrun(took: float, budget: float | None) -> None:
    """By how much the study took longer than its budget, on the clock and with all that is no training."""
    from polytask.cli.terminal import say
    from polytask.report.words import duration

    if budget is not None and took >= budget + 1:
        say(
            f"The study took {duration(took)} from start to end, {duration(took - budget)} more than the budget of "
            f"{duration(budget)}, which is for trainings on folds and not for reading data and loading libraries."
        )


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
