"""``polytask info``: what a run or a bundle is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from polytask.bundle import Bundle

__all__ = ["info"]


def info(
    run: Annotated[Path, typer.Argument(help="Run folder (or bundle) of polytask fit, extend or study.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show a trained model: its tasks, inputs, results, and where it comes from.

    Example: polytask info runs/first
    """
    import json

    from polytask.bundle import load
    from polytask.cli.terminal import print_record, print_table, say
    from polytask.records import RunRecord

    bundle = load(run)
    if (run / "study.json").exists() and not json_output:
        from polytask.cli.verdicts import print_study
        from polytask.records import StudyRecord

        print_study(StudyRecord.load(run))
        _say_inputs_and_models(bundle)
        return
    if json_output:
        say(json.dumps({"metrics": bundle.metrics, "provenance": bundle.provenance}, ensure_ascii=False))
        return
    record = RunRecord.load(run / "record.json") if (run / "record.json").exists() else None
    if record is not None:
        print_record(record)
    others = [task for task in bundle.tasks if record is None or task.name not in record.tasks]
    if others:
        rows = []
        for task in others:
            first = task.metrics[0]
            arrow = "↑" if first.higher_is_better else "↓"
            value = bundle.metrics.get(task.name, {}).get(first.name)
            rows.append([task.name, task.kind, f"{first.name} {arrow}", value])
        if record is not None and record.extension is not None:
            say(f"Tasks of {record.extension.origin}:")
        print_table(["task", "kind", "metric", "test metric"], rows)
    _say_inputs_and_models(bundle)


def _say_inputs_and_models(bundle: Bundle) -> None:
    from polytask.bundle import Network
    from polytask.cli.terminal import say

    for name, transform in bundle.transforms.items():
        left_out = [column for column in transform.names if column not in transform.used]
        without = f" (left out: {', '.join(left_out)})" if left_out else ""
        say(f"Inputs of {name}: {', '.join(transform.used)}{without}.")
    origin = bundle.provenance
    recipe = f" with recipe {origin['recipe_hash']}" if "recipe_hash" in origin else ""
    say(f"Made {origin.get('made', '?')}{recipe}:")
    for model in bundle.models:
        spec = (
            f"{model.spec.encoder} encoder, {model.spec.sharing} sharing" if isinstance(model, Network) else model.kind
        )
        say(f"  {spec}, {model.n_parameters:,} parameters, tasks {', '.join(model.tasks)}")
