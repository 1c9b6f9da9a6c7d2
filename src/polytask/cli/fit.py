"""``polytask fit``: train one model for several targets of a table, or run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import asked
from polytask.cli.options import changed_recipe, listed_methods, separated, task_options
from polytask.cli.processes import is_first, run_again
from polytask.errors import RecipeError, UnknownNameError

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["BROKEN", "fit"]

BROKEN = 3
"""Exit status of a run whose model does not keep a constraint."""


def fit(
    data: asked.Data,
    targets: asked.Targets = "",
    out: Annotated[Path | None, typer.Option(help="Run folder to make. Must not exist, unless with --resume.")] = None,
    inputs: asked.Inputs = "",
    drop: asked.Drop = "",
    group: asked.Group = "",
    time: Annotated[str, typer.Option(help="Column of times: the newest rows are the test rows.")] = "",
    stratify: Annotated[bool, typer.Option(help="Keep the shares of all tasks' classes equal on both sides.")] = False,
    encoder: Annotated[str, typer.Option(help="See: polytask list encoders.")] = "auto",
    sharing: Annotated[
        str, typer.Option(help="See: polytask list sharing. Options: --set sharing.ratio=0.5.")
    ] = "hard",
    balancer: Annotated[str, typer.Option(help="See: polytask list balancers.")] = "equal",
    schedule: Annotated[
        str,
        typer.Option(
            help="Tasks at once or in stages; see: polytask list schedules. Options: --set schedule.order=[b,a]."
        ),
    ] = "joint",
    remedies: Annotated[
        str,
        typer.Option(
            help="Against forgetting in later stages: ewc,replay. See: polytask list remedies. Options: "
            "--set 'schedule.remedies=[{name: ewc, strength: 1000}]'."
        ),
    ] = "",
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BOUND",
            help='What the model must keep: "A.loss<=0.3", "A.recall>=0.95", "all.loss<=single+1%", '
            '"A.positive_rate by sex within 0.02". May be given several times. If one is not kept, the model is saved '
            "all the same and the exit status is 3.",
        ),
    ] = None,
    multipliers: Annotated[
        str, typer.Option(help="How hard constraints pull. See: polytask list multipliers.")
    ] = "augmented_lagrangian",
    epochs: Annotated[int | None, typer.Option(help="At most this many.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest in the training.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of parameters, batches and splits.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of a recipe: --set training.patience=5 --set sharing.ratio=0.5; of a task, such as "
            "tasks.price.patience=5 (learning_rate, schedule, warmup, only_where, row_weights); of the table, such as "
            "kinds.review=words (free text), kinds.smiles=molecule, kinds.photo=image (files), augment=[mixup], "
            "own_norms, importance; of one source of several: data.NAME.kinds.review=words. "
            "reads=photo (reads=review): an encoder of images, sounds or texts reads this column alone; streamed=true: "
            "rows, files and texts stay where they are until a batch needs them.",
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            help="Train one network by so many processes of this machine, each with its part of every batch; on "
            "several machines: torchrun ... -m polytask fit ...",
            min=1,
        ),
    ] = 1,
    engine: Annotated[
        str,
        typer.Option(help="Who starts the processes: local, or ray (extra ray; needs --out), here or on a --address."),
    ] = "local",
    address: Annotated[str, typer.Option(help="Of a Ray cluster that runs: auto, host:port.")] = "",
    compare: Annotated[bool, typer.Option(help="Also train one model a task, with the same budget.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on in a run folder that exists.")] = False,
    json_output: asked.Json = False,
) -> None:
    """Train one model for several targets, with missing labels anywhere, and test it on rows kept apart.

    Example: polytask fit patients.csv --targets motor,total --group patient --out runs/first --compare
    """
    _check_engine(engine, address, out)
    if processes > 1 and engine == "local":
        raise typer.Exit(run_again(processes))
    from polytask.cli.terminal import fail, note, print_inputs, print_record, say
    from polytask.recipe import Recipe
    from polytask.training.progress import Bar

    if data.suffix in (".yaml", ".yml", ".json"):
        recipe = Recipe.load(data)
        if targets:
            raise RecipeError("The recipe names the tasks: give either a recipe or --targets.")
    else:
        if not targets:
            raise RecipeError("Which columns are to be predicted? Give --targets a,b,c.")
        spec = _given(path=str(data), drop=separated(drop), inputs=separated(inputs) or None)
        recipe = Recipe(
            tasks=task_options(targets),
            data={data.stem: spec},
            split=_split(group, time, stratify),
            encoder=encoder,
            sharing=sharing,
            balancer=balancer,
            schedule={"name": schedule, **_given(remedies=listed_methods("--remedies", remedies) or None)},
            multipliers=multipliers,
            training=_given(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate),
            seed=seed,
        )
    overrides = [*(settings or []), *([f"training.device={device}"] if device != "cpu" else [])]
    if overrides:
        _check_tasks(overrides, recipe)
        recipe = changed_recipe(recipe, overrides)
    if constraint:
        recipe = Recipe(**{**recipe.plain(), "constraints": [*recipe.constraints, *constraint]})
    more: dict[str, Any] = {"out": out, "resume": resume, "compare": compare}
    if engine == "ray":
        from polytask.training.on_ray import OnRay

        run = OnRay(processes, address=address or None).run(recipe, progress=Bar(), **more)
    else:
        run = recipe.run(progress=Bar() if is_first() else None, **more)
    if not is_first():
        raise typer.Exit(BROKEN if run.record.broken else 0)
    if json_output:
        import json

        say(json.dumps(run.record.to_json(), ensure_ascii=False))
    else:
        print_record(run.record)
        print_inputs(run.bundle)
        if run.path is not None:
            say(f"Model: {run.path / 'bundle'}    Predict: polytask predict {run.path} NEW.csv --out P.csv")
        else:
            note("Nothing was saved: give --out to keep the model.")
    if broken := run.record.broken:
        # Told apart from 2, a command that could not be carried out: here there is a model, and it falls short.
        fail(f"Not kept: {'; '.join(f'{name} ({run.record.constraints[name].words})' for name in broken)}")
        raise typer.Exit(BROKEN)


def _check_engine(engine: str, address: str, out: Path | None) -> None:
    if engine not in ("local", "ray"):
        raise UnknownNameError("engine", engine, ["local", "ray"])
    if address and engine != "ray":
        raise RecipeError("--address is that of a Ray cluster: give --engine ray too.")
    if engine == "ray" and out is None:
        raise RecipeError("--engine ray needs --out: what its processes train comes back through the run folder.")


def _check_tasks(overrides: list[str], recipe: Recipe) -> None:
    """A setting of a task that there is not is no further task, unless it says what that predicts."""
    named = [override.partition("=")[0].split(".") for override in overrides]
    made = {path[1] for path in named if path[0] == "tasks" and path[2:] in (["kind"], ["target"])}
    for path in named:
        if path[0] == "tasks" and len(path) > 2 and path[1] not in {*recipe.tasks, *made}:
            raise UnknownNameError("task", path[1], recipe.tasks, f"--set {'.'.join(path)}")


def _split(group: str, time: str, stratify: bool) -> dict[str, Any]:
    if sum(map(bool, (group, time))) > 1:
        raise RecipeError("Rows are divided by --group or by --time, not by both.")
    if group:
        return {"method": "grouped", "column": group}
    if time:
        return {"method": "time", "column": time}
    return {"method": "stratified"} if stratify else {}


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
