"""``polytask serve``: a trained model over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    run: Annotated[Path, typer.Argument(help="Run folder (or bundle) of polytask fit, extend or study.")],
    host: Annotated[str, typer.Option(help="Address to listen on; only this machine unless told otherwise.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.", min=0, max=65535)] = 8000,
    api_key: Annotated[
        str, typer.Option(envvar="POLYTASK_API_KEY", help="Clients must send this key; safer as the variable.")
    ] = "",
    max_rows: Annotated[int, typer.Option(help="Rows of one request in JSON.", min=1)] = 10_000,
    max_file_rows: Annotated[int, typer.Option(help="Rows of one file.", min=1)] = 1_000_000,
    max_bytes: Annotated[int, typer.Option(help="Bytes of one request.", min=1)] = 32 << 20,
    max_seconds: Annotated[float, typer.Option(help="Time for one request.", min=0.001)] = 30.0,
    batch_rows: Annotated[int, typer.Option(help="Rows through the model at once.", min=1)] = 1024,
    drain_seconds: Annotated[
        float, typer.Option(help="After a stop is asked for, serve on as 'not ready' for so long.", min=0)
    ] = 0.0,
) -> None:
    """Serve a trained model: a page at /, the API in words at /docs, rows to /predict, files to /predict/file.

    SIGTERM or Ctrl-C stops it: what was asked by then is answered, and the exit status is 0. A second Ctrl-C stops it
    at once; with --drain-seconds, the second one ends the drain and the third stops it at once.

    Example: polytask serve runs/first --port 8000
    """
    from polytask.bundle import load
    from polytask.cli.terminal import note, say
    from polytask.errors import MissingExtraError
    from polytask.wording import counted

    bundle = load(run)
    try:
        from polytask.serving.limits import Limits
        from polytask.serving.server import serve as serve_bundle
    except ModuleNotFoundError as error:
        raise MissingExtraError("polytask serve", error.name or "fastapi", "serve") from error
    if host not in _LOOPBACK and not api_key:
        note(f"Anybody who reaches {host} may ask this server: set POLYTASK_API_KEY to ask for a key.")
    limits = Limits(
        rows=max_rows,
        file_rows=max_file_rows,
        bytes=max_bytes,
        seconds=max_seconds,
        batch_rows=batch_rows,
        drain_seconds=drain_seconds,
    )
    n_tasks = len(bundle.tasks)

    def ready(url: str) -> None:
        say(f"{counted(n_tasks, 'task')} on {url}    API: {url}/docs    Stop: Ctrl-C")
        import sys

        sys.stdout.flush()

    serve_bundle(bundle, host, port, limits, api_key or None, ready)
