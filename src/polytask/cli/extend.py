"""``polytask extend``: add tasks to a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polytask.cli import asked
from polytask.cli.options import listed_methods, method_options, separated, task_options

__all__ = ["extend"]


def extend(
    run: Annotated[Path, typer.Argument(help="Run folder (or bundle) of polytask fit or extend.")],
    targets: Annotated[str, typer.Option(help="New target columns: z, or with a kind: z:count.")],
    out: Annotated[Path, typer.Option(help="Run folder to make. Must not exist, unless with --resume.")],
    data: Annotated[
        Path | None, typer.Option(help="A table with the model's input columns and the new targets.")
    ] = None,
    adapters: Annotated[
        bool, typer.Option(help="New layers for the new tasks in the frozen network too; --set adapters.bottleneck=8.")
    ] = False,
    unfreeze: Annotated[
        bool, typer.Option(help="Train the old network too; what changes for its tasks is measured.")
    ] = False,
    remedies: Annotated[
        str, typer.Option(help="With --unfreeze, against forgetting: learning_without_forgetting,ewc.")
    ] = "",
    old_data: Annotated[
        Path | None, typer.Option(help="With --unfreeze: the old data, if they are not where the recipe says.")
    ] = None,
    start: Annotated[
        str, typer.Option(help="closest: from the head of the task that the new one resembles, if better; or fresh.")
    ] = "closest",
    like: Annotated[str, typer.Option(help="Without labels: the old task whose head the new one takes over.")] = "",
    source: Annotated[str, typer.Option(help="Which source the rows are like, if the model reads several.")] = "",
    epochs: Annotated[int | None, typer.Option(help="At most this many.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of parameters, batches and split.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="--set training.learning_rate=0.01 --set split.test=0.3; of a new task, such as "
            "--set 'tasks.z.only_where={ill: yes}' (learning_rate, schedule, warmup, row_weights).",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on in a run folder that exists.")] = False,
    json_output: asked.Json = False,
) -> None:
    """Add tasks to a trained model; its own tasks answer as before, bit for bit, unless it is unfrozen.

    Example: polytask extend runs/first --data new.csv --targets z --out runs/second
    """
    from polytask.cli.terminal import print_record, say
    from polytask.errors import RecipeError, UnknownNameError
    from polytask.extending import extend as add
    from polytask.training.progress import Bar

    if not separated(targets):
        raise RecipeError("Which columns are the new tasks? Give --targets z.")
    named = task_options(targets)
    given = method_options({"tasks": named}, settings or [])
    if unknown := sorted(set(given) - {"tasks", "training", "split", "adapters"}):
        raise RecipeError(f"--set {unknown[0]}: an extension has settings of tasks, training, split and adapters only.")
    if others := sorted(set(given["tasks"]) - set(named)):
        raise RecipeError(str(UnknownNameError("new task", others[0], list(named), f"--set tasks.{others[0]}")))
    if given.get("adapters") and not adapters:
        raise RecipeError("--set adapters.bottleneck is for --adapters: give that too, or take the setting out.")
    training = {**given.get("training", {}), **({} if epochs is None else {"epochs": epochs})}
    made = add(
        run,
        data,
        given["tasks"],
        out=out,
        adapters=given.get("adapters") or adapters,
        unfreeze=unfreeze,
        remedies=listed_methods("--remedies", remedies),
        old_data=old_data,
        start=start,
        like=like or None,
        training=training,
        split=given.get("split"),
        source=source or None,
        seed=seed,
        resume=resume,
        progress=Bar(),
    )
    if json_output:
        import json

        say(json.dumps(made.record.to_json(), ensure_ascii=False))
        return
    print_record(made.record)
    say(f"Model: {out / 'bundle'}    Predict: polytask predict {out} NEW.csv --out P.csv")
