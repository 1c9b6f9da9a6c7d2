"""``polytask export``: a trained network as a graph for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.options import separated

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(help="Run folder (or bundle) of polytask fit, extend or study.")],
    out: Annotated[Path, typer.Option(help="Folder for the graph and its JSON file. Must be empty or not exist.")],
    to: Annotated[str, typer.Option(help="onnx, or torch for a program of torch.export.")] = "onnx",
    tasks: Annotated[str, typer.Option(help="Only these tasks: a,b. All if left out.")] = "",
    source: Annotated[str, typer.Option(help="Which source's rows the graph reads, if the model reads several.")] = "",
    int8: Annotated[
        Path | None, typer.Option(help="Also with weights of 8 bits, compared on this labelled table (ONNX only).")
    ] = None,
) -> None:
    """Write a trained network as ONNX or torch.export, and beside it what has to be done before and after.

    Example: polytask export runs/first --out graph --int8 labelled.csv
    """
    from polytask.bundle import load
    from polytask.cli.terminal import print_table, say
    from polytask.errors import RecipeError
    from polytask.serving.export import export as export_bundle

    if int8 is not None and to != "onnx":
        raise RecipeError("Weights of 8 bits are for ONNX: take --int8 out, or give --to onnx.")
    bundle, asked = load(run), separated(tasks) or None
    if int8 is not None:
        from polytask.serving.quantisation import check_labelled, quantise

        check_labelled(bundle, int8, asked, source or None)  # before minutes are spent on the graph
    made = export_bundle(bundle, out, to, asked, source or None)
    say(f"Graph: {made.graph}    What lies before and behind it: {made.about}")
    say(f"Largest difference from the network: {made.difference:.1e}")
    if int8 is not None:
        path, metrics = quantise(made.about, int8)
        before, after = made.graph.stat().st_size, path.stat().st_size
        rows = [
            [task, name, *pair, pair[1] - pair[0]] for task, found in metrics.items() for name, pair in found.items()
        ]
        say(f"Weights of 8 bits: {path}, {after:,} bytes instead of {before:,}")
        print_table(["task", "metric", "32 bits", "8 bits", "change"], rows)
