"""``polytask info``: what a run or a bundle is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["info"]


def info(
    run: Annotated[Path, typer.Argument(help="Run folder (or bundle) of polytask fit.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show a trained model: its tasks, inputs, results, and where it comes from."""
    import json

    from polytask.bundle import Network, load
    from polytask.cli.terminal import print_record, print_table, say
    from polytask.records import RunRecord

    bundle = load(run)
    if json_output:
        say(json.dumps({"metrics": bundle.metrics, "provenance": bundle.provenance}, ensure_ascii=False))
        return
    if (run / "record.json").exists():
        print_record(RunRecord.load(run / "record.json"))
    else:
        rows = [[t.name, t.kind, (bundle.metrics.get(t.name) or {}).get(t.metrics[0].name)] for t in bundle.tasks]
        print_table(["task", "kind", "test metric"], rows)
    for name, transform in bundle.transforms.items():
        say(f"Inputs of {name}: {', '.join(transform.names)}.")
    origin = bundle.provenance
    say(f"Made {origin.get('made', '?')} with recipe {origin.get('recipe_hash', '?')}:")
    for model in bundle.models:
        spec = (
            f"{model.spec.encoder} encoder, {model.spec.sharing} sharing" if isinstance(model, Network) else model.kind
        )
        say(f"  {spec}, {model.n_parameters:,} parameters, tasks {', '.join(model.tasks)}")
