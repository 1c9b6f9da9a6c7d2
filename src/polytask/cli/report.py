"""``polytask report``: the page of a study or a run, or of several side by side, from records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUNS", help="Folders of polytask study or fit, or their records."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file to write. RUN/page.html, or comparison.html for several, if left out."),
    ] = None,
    charts: Annotated[
        bool | None,
        typer.Option(
            "--charts/--no-charts", help="A page without charts is small. If left out: where plotly is there."
        ),
    ] = None,
) -> None:
    """Draw the page of a study or a run again, or compare several; nothing is trained.

    Example: polytask report runs/study        polytask report runs/study runs/again --out both.html
    """
    from polytask.cli.terminal import say
    from polytask.report import load_record, write_page

    records = [load_record(run) for run in runs]
    if len(runs) == 1:
        folder = runs[0] if runs[0].is_dir() else runs[0].parent
        page = write_page(records[0], out or folder / "page.html", charts=charts)
    else:
        page = write_page(records, out or Path("comparison.html"), names=_names(runs), charts=charts)
    say(f"Page: {page.resolve()}")


def _names(runs: list[Path]) -> list[str]:
    """The folders' own names where they differ, whole paths where they do not."""
    short = [(run if run.is_dir() else run.parent).resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]
