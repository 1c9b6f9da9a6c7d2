"""``polytask bench step-cost``: what a method costs, before anybody trains with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli.options import separated
from polytask.errors import RecipeError
from polytask.wording import counted

__all__ = ["bench"]

bench = typer.Typer(no_args_is_help=True, help="Measure costs on this machine.", rich_markup_mode=None)

# Those whose cost tells most about the others': plain, a cheap one, one that projects, one that solves.
TYPICAL = "equal,famo,mgda,pcgrad,cagrad,nash_mtl,upgrad"


@bench.callback()
def _bench() -> None:
    """Measure costs on this machine."""


@bench.command("step-cost", short_help="Seconds a step and memory of each balancer, over plain summation.")
def step_cost(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe (.yaml) to measure; else give --workload.")] = None,
    workload: Annotated[
        str, typer.Option(help="Built in: lenet2, mlp11, transformer8, resnet40, sources4_mlp, sources4_conv.")
    ] = "",
    balancers: Annotated[str, typer.Option(help="Names, or 'all'. See: polytask list balancers.")] = TYPICAL,
    modes: Annotated[str, typer.Option(help="Of exact, every_k, features, matrix_free.")] = "exact,features,every_k",
    peers: Annotated[bool, typer.Option(help="Measure TorchJD beside (must be installed).")] = False,
    rounds: Annotated[int, typer.Option(help="How often each is measured, in turn.", min=1)] = 5,
    threads: Annotated[str, typer.Option(help="Numbers of threads, each a run of its own.")] = "1,2",
) -> None:
    """Print seconds a step and peak memory of each balancer over plain summation, measured in turn in one process.

    Example: polytask bench step-cost --workload mlp11 --peers
    """
    from polytask.balancing import registry
    from polytask.balancing.cost import step_cost as measure
    from polytask.balancing.workloads import Workload
    from polytask.balancing.workloads import workload as built_in
    from polytask.cli.terminal import note, print_table, say

    if bool(recipe) == bool(workload):
        raise RecipeError("Give either a recipe or --workload NAME to measure.")
    names = registry.names() if balancers == "all" else separated(balancers)
    for name in names:
        registry.load(name)  # a wrong name is told before anything is measured
    work: Workload
    if recipe is not None:
        from polytask.recipe import Recipe
        from polytask.training.workload import RecipeWorkload

        work = RecipeWorkload(Recipe.load(recipe))
    else:
        work = built_in(workload)
    note(f"Measuring {counted(len(names), 'balancer')}; this takes {rounds + 1} rounds of each.")
    rows = measure(
        work,
        names,
        separated(modes),
        peers=peers,
        rounds=rounds,
        threads=[int(number) for number in separated(threads)],
    )
    print_table(
        ["balancer", "mode", "threads", "ms a step", "over plain", "extra MB"],
        [
            [
                r.method,
                r.mode,
                r.threads,
                round(1e3 * r.seconds, 3),
                round(r.ratio, 2),
                round(r.extra_memory / 2**20, 1),
            ]
            for r in rows
        ],
    )
    left_out = sorted(set(names) - {row.method for row in rows})
    if left_out:
        say(f"Left out, because they need a second or a validation batch, or cannot run so: {', '.join(left_out)}.")
