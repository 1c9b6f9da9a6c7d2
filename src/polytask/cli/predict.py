"""``polytask predict``: answers of a trained model for new rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.options import separated

__all__ = ["predict"]


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder (or bundle) of polytask fit.")],
    data: Annotated[Path, typer.Argument(help="A table with the input columns: CSV, Parquet, Arrow.")],
    out: Annotated[Path, typer.Option(help="Table to write: .csv or .parquet.")],
    tasks: Annotated[str, typer.Option(help="Only these tasks: a,b. All if left out.")] = "",
    source: Annotated[str, typer.Option(help="Which source the rows are of, if the model reads several.")] = "",
) -> None:
    """Predict all tasks for new rows: a column for each task, then its probabilities.

    Example: polytask predict runs/first new.csv --out predictions.csv
    """
    from polytask.bundle import load
    from polytask.cli.terminal import say
    from polytask.data.tables import write_table

    bundle = load(run)
    answers = bundle.predict_frame(data, separated(tasks) or None, source or None)
    write_table(answers, out)
    say(f"{len(answers):,} rows x {answers.shape[1]} columns -> {out}")
