"""All verbs of the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from polytask.cli import demo, fit, info, list_methods, predict

app = typer.Typer(
    name="polytask",
    help="Several related prediction tasks, learned together: train, compare, predict.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from polytask import __version__

        typer.echo(f"polytask {__version__}")
        raise typer.Exit


@app.callback(epilog="Start with: polytask demo")
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Several related prediction tasks, learned together: train, compare, predict."""


app.command("demo")(demo.demo)
app.command("fit")(fit.fit)
app.command("predict")(predict.predict)
app.command("info")(info.info)
app.command("list")(list_methods.list_methods)
