"""``polytask predict``: answers of a trained model for new rows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from polytask.cli.options import separated
from polytask.errors import StorageError

__all__ = ["predict"]


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder (or bundle) of polytask fit, extend or study.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="A table with the input columns: CSV, JSON lines, Parquet, Arrow; or a folder or zip archive of files."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table to write: .csv, .tsv, .parquet or .arrow.")],
    tasks: Annotated[str, typer.Option(help="Only these tasks: a,b. All if left out.")] = "",
    source: Annotated[str, typer.Option(help="Which source the rows are of, if the model reads several.")] = "",
    resume: Annotated[bool, typer.Option(help="Go on with predictions that were interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace --out if it exists.")] = False,
    piece: Annotated[int, typer.Option(help="Rows in memory at once.", min=1)] = 16_384,
) -> None:
    """Predict all tasks for new rows: a column for each task, then its probabilities.

    The file may be larger than memory: it is read in pieces, and rows keep their order. Columns that the model does not
    read are named.

    After Ctrl-C or a kill, the same command with --resume goes on where it was, as for polytask fit; --overwrite begins
    anew.

    Example: polytask predict runs/first new.parquet --out predictions.parquet
    """
    from polytask.bundle import load
    from polytask.cli.terminal import note, say
    from polytask.serving.streaming import predict_file
    from polytask.wording import counted

    if not out.parent.exists():
        raise StorageError(f"The folder of --out, {out.parent}, does not exist. Make it first, or correct --out.")
    bundle = load(run)
    bar = RowBar()
    asked = separated(tasks) or None
    notes: list[str] = []
    was_there = out.exists()
    try:
        n_rows, columns = predict_file(
            bundle, data, out, asked, source or None, resume=resume, overwrite=overwrite, piece=piece, progress=bar,
            notes=notes,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted after {counted(bar.done, 'row')}. Go on by --resume.") from None
    finally:
        bar.stop()
    size = f"{counted(n_rows, 'row')} x {counted(len(columns), 'column')}"
    say(f"Done: {size} already in {out}" if was_there and not bar.done else f"{size} -> {out}")
    for text in notes:
        note(f"Note: {text}")


class RowBar:
    """A bar of rows done, on standard error, once it takes over two seconds; a line every ten where that is a file."""

    def __init__(self) -> None:
        self.done = 0
        self._began = self._last = time.monotonic()
        self._bar: Any = None

    def __call__(self, done: int, total: int | None) -> None:
        """Some rows are done."""
        self.done = done
        now = time.monotonic()
        if now - self._began < 2:
            return
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_terminal:
            if now - self._last >= 10:
                self._last = now
                console.print(f"{done:,} rows" + (f" of {total:,}" if total else ""), highlight=False)
            return
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("rows"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task("rows", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done)

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
