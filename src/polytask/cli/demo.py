"""``polytask demo``: a joint model on real data, beside one model a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path | None, typer.Option(help="Keep the run in this folder.")] = None,
    seed: Annotated[int, typer.Option(help="Of split, parameters, batches, and of which labels are hidden.")] = 0,
    hidden: Annotated[float, typer.Option(help="Share of each task's labels that is hidden.", min=0, max=0.95)] = 0.5,
) -> None:
    """Train on real data that ships inside Python packages: a joint model beside one model a task.

    The table has tasks of four kinds; half of each task's labels are hidden, as in tables one meets.
    """
    import numpy as np

    from polytask.cli.terminal import print_record, say
    from polytask.data.bundled import load_bundled
    from polytask.recipe import Recipe
    from polytask.training.progress import Bar

    table = load_bundled("marriage")
    say(table.words)
    generator = np.random.default_rng(seed)
    frame = table.frame.copy()
    for task in table.tasks:
        for target in task.targets:
            frame[target] = frame[target].where(generator.random(len(frame)) >= hidden)
    say(f"{hidden:.0%} of the labels of each task are hidden. Training one joint model, then one model a task:")
    recipe = Recipe(
        tasks=[task.options() for task in table.tasks],
        data={"marriage": {"inputs": list(table.inputs)}},
        split={"method": "stratified"},
        training={"epochs": 60},
        seed=seed,
    )
    run = recipe.run({"marriage": frame}, out=out, compare=True, progress=Bar())
    print_record(run.record)
    say("Your own table: polytask fit data.csv --targets a,b,c --compare --out RUN")
