"""All verbs of the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from polytask.cli import affinity, bench, demo, export, extend, fit, info, list_methods, predict, report, serve, study
from polytask.cli.processes import refuse_several
from polytask.cli.suggestions import explain_unknown
from polytask.cli.terminal import fail
from polytask.errors import PolytaskError


class _Verbs(TyperGroup):
    """An error that polytask raises on purpose is one line on standard error and exit status 2."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except PolytaskError as error:
            fail(str(error))
            raise typer.Exit(2) from None
        except Exception as error:
            explain_unknown(error)
            raise
        except KeyboardInterrupt as stop:
            fail(str(stop) or "Interrupted.")
            raise typer.Exit(130) from None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        name, command, rest = super().resolve_command(ctx, args)
        refuse_several(name or "")
        return name, command, rest


app = typer.Typer(
    name="polytask",
    cls=_Verbs,
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


app.command("demo", short_help="A whole study of data that are at hand, in a minute.")(demo.demo)
app.command("fit", short_help="Train one model for several targets of a table.")(fit.fit)
app.command("extend", short_help="Add tasks to a trained model.")(extend.extend)
app.command("study", short_help="Compare ways of learning the tasks, with evidence.")(study.study)
app.command("affinity", short_help="Which tasks help each other, which hurt, and groups.")(affinity.affinity)
app.command("report", short_help="The page of a study or run again, or several compared.")(report.report)
app.command("predict", short_help="Predict all tasks for new rows.")(predict.predict)
app.command("serve", short_help="Serve a trained model over HTTP, with a page to try it.")(serve.serve)
app.command("export", short_help="A trained network as ONNX or torch.export.")(export.export)
app.command("info", short_help="Show a trained model and its results.")(info.info)
app.command("list", short_help="List the methods by name.")(list_methods.list_methods)
app.add_typer(bench.bench, name="bench")
