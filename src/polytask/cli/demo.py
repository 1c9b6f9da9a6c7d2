"""``polytask demo``: a joint model on real data, beside one model a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path | None, typer.Option(help="Keep the run in this folder.")] = None,
    seed: Annotated[int, typer.Option(help="Of split, parameters and batches.")] = 0,
) -> None:
    """Train on real data that ships inside Python packages, and show the joint model beside one model a task."""
    from polytask.cli.terminal import print_record, say
    from polytask.data.bundled import load_bundled
    from polytask.recipe import Recipe
    from polytask.training.progress import Bar

    bundled = load_bundled("demo")
    say(bundled.words)
    recipe = Recipe(tasks=bundled.tasks, split={"method": "stratified"}, training={"epochs": 40}, seed=seed)
    run = recipe.run({"demo": bundled.frame}, out=out, compare=True, progress=Bar())
    print_record(run.record)
