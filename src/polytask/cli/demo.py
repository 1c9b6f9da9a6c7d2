"""``polytask demo``: a whole study of real data that are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from polytask.data.bundled import BundledTable
    from polytask.study import Study

__all__ = ["demo"]

TABLE = "tumours"
ARMS = ("joint", "single", "linear", "boosting")
EPOCHS = {"epochs": 60, "patience": 12}
"""Shorter than a study's default trainings, so that the demo takes a minute."""
BUDGET = "65s"
"""On a slow machine the study leaves out folds, and says so, rather than take longer."""
DEFAULT_OUT = Path("demo-run")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for record, page, models and table.")] = DEFAULT_OUT,
    seed: Annotated[int, typer.Option(help="Of folds, trainings, and of which labels are hidden.")] = 0,
    hidden: Annotated[float, typer.Option(help="Share of each task's labels that is hidden.", min=0, max=0.9)] = 0.5,
    json_output: Annotated[bool, typer.Option("--json", help="Print the record as JSON, and nothing else.")] = False,
) -> None:
    """Study real data that ship inside Python packages: does learning four tasks together pay? About a minute.

    The tasks are of two kinds, and half of each one's labels are hidden, as in tables one meets. Run again, it goes on
    where it was; what is done is not done twice.

    Example: polytask demo
    """
    import json

    from polytask.cli.study import TrialBar
    from polytask.cli.terminal import note, say
    from polytask.cli.verdicts import print_study
    from polytask.data.bundled import load_bundled
    from polytask.report import write_page

    table = load_bundled(TABLE)
    frame = _with_hidden_labels(table, hidden, seed)
    note(table.words)
    note(
        f"{hidden:.0%} of the labels of each task are hidden. Arms on the same folds: {', '.join(ARMS)}. "
        "This takes about a minute."
    )
    bar = TrialBar()
    try:
        study = _run(table, frame, out, seed, bar)
    finally:
        bar.stop()
    assert study.folder is not None
    folder = study.folder.path
    frame.to_csv(folder / f"{TABLE}.csv", index=False)
    page = write_page(study.record, folder / "page.html")
    if json_output:
        say(json.dumps(study.record.to_json(), ensure_ascii=False))
        return
    print_study(study.record)
    say(f"Record: {folder / 'study.json'}    Models: {folder / 'bundle'}")
    say(f"Predict: polytask predict {folder} {folder / TABLE}.csv --out predictions.csv")
    say("Your own table: polytask study data.csv --targets a,b,c --out RUN")
    say(f"Page, to be opened in a browser: {page.resolve()}")


def _with_hidden_labels(table: BundledTable, hidden: float, seed: int) -> pd.DataFrame:
    """The table with a share of each task's labels missing at random."""
    import numpy as np

    generator = np.random.default_rng(seed)
    frame = table.frame.copy()
    for task in table.tasks:
        for target in task.targets:
            frame[target] = frame[target].where(generator.random(len(frame)) >= hidden)
    return frame


def _run(table: BundledTable, frame: pd.DataFrame, out: Path, seed: int, listener: Any) -> Study:
    """The study, finished; it goes on in a folder of the same demo, and takes the next name beside that of another."""
    from polytask.errors import RunFolderError
    from polytask.study import Protocol, Study
    from polytask.training.data_sets import TableData

    names = [task.name for task in table.tasks]
    refused: RunFolderError | None = None
    for number in range(1, 100 if out == DEFAULT_OUT else 2):
        folder = out if number == 1 else out.with_name(f"{out.name}-{number}")
        data = TableData(TABLE, frame, inputs=table.inputs, targets=names)
        study = Study(
            data, [task.options() for task in table.tasks], arms=ARMS, budget=BUDGET, protocol=Protocol(seed=seed),
            training=EPOCHS, out=folder, resume=True, engine="local", listener=listener,
        )  # fmt: skip
        try:
            study.run()
        except RunFolderError as error:
            refused = refused or error
        else:
            return study
    assert refused is not None
    raise refused
