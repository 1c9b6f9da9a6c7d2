"""``polytask affinity``: which tasks help each other, which hurt, and which belong into one model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import asked
from polytask.cli.options import data_and_tasks, separated

if TYPE_CHECKING:
    from polytask.affinity.record import AffinityRecord, Grouping

__all__ = ["affinity"]


def affinity(
    data: asked.Data,
    targets: asked.Targets = "",
    by: Annotated[
        str, typer.Option(help="Long table: each value of this column (school, site) is a task with rows of its own.")
    ] = "",
    group: asked.Group = "",
    measures: Annotated[
        str, typer.Option(help="Measures; the first makes the groups. polytask list measures.")
    ] = "gradient_cosine,label_correlation",
    group_by: Annotated[str, typer.Option(help="The measure that makes the groups, if not the first.")] = "",
    groups: Annotated[
        int | None,
        typer.Option(
            help="Most groups, a model each: about the root of the number of tasks if left out; 0 makes none.", min=0
        ),
    ] = None,
    cost: Annotated[
        float | None,
        typer.Option(help="Groups: at most this total cost; a group costs 1, and --head-cost a task more."),
    ] = None,
    head_cost: Annotated[float, typer.Option(help="What one more task in a group costs.", min=0.0)] = 0.0,
    verify: Annotated[
        bool, typer.Option(help="Train the groups and their controls, and test them on rows no measure saw.")
    ] = True,
    seeds: Annotated[int, typer.Option(help="Readings of each measure; two read two halves of the rows.", min=1)] = 2,
    budget: Annotated[str, typer.Option(help="Time of a reading, for pairwise_gain: 90s, 10m, 1h.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for record and page.")] = None,
    inputs: asked.Inputs = "",
    drop: asked.Drop = "",
    seed: Annotated[int, typer.Option(help="Of split and trainings.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting of a recipe: --set training.epochs=20 --set split.method=stratified.",
        ),
    ] = None,
    resume: asked.Resume = False,
    json_output: asked.Json = False,
) -> None:
    """Measure what tasks do for each other, point out those that hurt, and put the others into groups.

    Example: polytask affinity patients.csv --targets motor,total,tremor --measures lookahead --groups 2 --out runs/a

    A task for each school: polytask affinity pupils.csv --targets score --by school --groups 10 --no-verify

    Molecules: polytask affinity assays.csv --targets toxic,soluble --set kinds.smiles=molecule

    Several sources: polytask affinity recipe.yaml, as for polytask study

    Several rows a patient: --group patient keeps them on one side, in the halves that readings compare too; of
    several sources, each of which needs the column, in all at once
    """
    import json

    from polytask.affinity import find_affinity
    from polytask.cli.terminal import note, say
    from polytask.training.progress import Bar

    class OneBar(Bar):
        """A bar without a line for each of many small trainings."""

        def stop(self, message: str) -> None:
            super().stop("")

    what, tasks, options = data_and_tasks(data, targets, inputs, drop, settings or [])
    try:
        record = find_affinity(
            what,
            tasks,
            measures=separated(measures),
            budget=lambda n_tasks: _budget(n_tasks, groups, cost, head_cost),
            group_by=group_by or None,
            verify=verify,
            seeds=seeds,
            seed=seed,
            seconds=_seconds(budget),
            out=out,
            resume=resume,
            progress=OneBar(),
            by=by or None,
            group=group or None,
            **options,
        )
    except KeyboardInterrupt:
        where = "Nothing is kept without --out." if out is None else f"What is finished is in {out}; go on by --resume."
        raise KeyboardInterrupt(f"Interrupted. {where}") from None
    if json_output:
        say(json.dumps(record.to_json(), ensure_ascii=False))
        return
    print_affinity(record)
    if out is None:
        note("Nothing was saved: give --out to keep record and page.")
    else:
        from polytask.report import write_page

        page = write_page(record, out / "page.html")
        say(f"Record: {out / 'affinity.json'}    Page: {page}")


_MOST_TASKS = 12
_MOST_PAIRS = 6
_MOST_NOTES = 8
_IN_A_SENTENCE = 4
"""More groups than this have a line each."""


def print_affinity(record: AffinityRecord) -> None:
    """A record in the terminal: matrices (of many tasks their strongest pairs), harm, groups, cost."""
    from polytask.cli.terminal import print_table, say
    from polytask.wording import counted

    names = list(record.tasks)
    for measure, found in record.measures.items():
        if len(names) <= _MOST_TASKS:
            rows = [[name, *found.values[i]] for i, name in enumerate(names)]
            print_table(["", *names], rows, title=f"{measure}: {found.words} (row i, column j)")
        else:
            _print_ends(measure, found, names)
        say(found.structure.words)
        for text in found.notes:
            say(f"Note: {measure}: {text}")
        say("")
    for text in record.harm[:_MOST_PAIRS]:
        say(f"Negative transfer: {text}")
    if len(record.harm) > _MOST_PAIRS:
        say(f"and {counted(len(record.harm) - _MOST_PAIRS, 'more pair')} in the record.")
    if not record.harm:
        say(
            "No pair's value is below zero by more than the spread between readings; measures that found no more than "
            "chance are not counted."
        )
    if record.grouping is None:
        say("No groups were made: --groups 0 asks for none.")
    else:
        _print_grouping(record.grouping)
    costs = [
        [name, *(found.cost[key] for key in ("forward", "backward", "trainings", "seconds"))]
        for name, found in record.measures.items()
    ]
    print_table(
        ["measure", "forward", "backward", "trainings", "seconds"], costs, title="Cost, in passes over the rows"
    )
    for text in record.notes[:_MOST_NOTES]:
        say(f"Note: {text}")
    if len(record.notes) > _MOST_NOTES:
        say(f"and {counted(len(record.notes) - _MOST_NOTES, 'more note')} in the record.")


def _print_ends(measure: str, found: Any, names: list[str]) -> None:
    from polytask.cli.terminal import print_table, say
    from polytask.wording import counted

    pairs = [
        (value, i, j)
        for i, row in enumerate(found.values)
        for j, value in enumerate(row)
        if value is not None and (i != j if found.directed else i < j)
    ]
    if not pairs:
        say(f"{measure}: no pair is known.")
        return
    pairs.sort(reverse=True)
    ends = pairs if len(pairs) <= 2 * _MOST_PAIRS else [*pairs[:_MOST_PAIRS], *pairs[-_MOST_PAIRS:]]
    rows = [[names[i], names[j], value, found.spread[i][j]] for value, i, j in ends]
    title = f"{measure}: {found.words}; the ends of {counted(len(pairs), 'pair')}"
    print_table(["task i", "task j", "value", "spread"], rows, title=title)


def _print_grouping(grouping: Grouping) -> None:
    from polytask.affinity.record import how_verified
    from polytask.cli.terminal import print_table, say
    from polytask.wording import counted

    every = {"chosen": grouping.chosen, **grouping.controls}
    rows = [[name, one.models, one.predicted, one.verified, one.spread, one.cost] for name, one in every.items()]
    how = "exact" if grouping.is_exact else "heuristic"
    print_table(
        ["groups", "models", "predicted", "verified skill", "spread", "cost"],
        rows,
        title=f"Groups by {grouping.measure} ({how}); skill on test rows: 1 is perfect, 0 is the best constant",
    )
    chosen = grouping.chosen
    if len(chosen.groups) <= _IN_A_SENTENCE:
        say(grouping.words)
    else:
        for number, (tasks, serves) in enumerate(zip(chosen.groups, chosen.serves, strict=True), 1):
            helpers = [task for task in tasks if task not in serves]
            helped = f"  (helped by {', '.join(helpers)})" if helpers else ""
            say(f"Group {number}, {counted(len(serves), 'task')}: {', '.join(serves)}{helped}")
        say(how_verified(chosen, grouping.controls) or "The groups were not verified.")
    for text in grouping.notes:
        say(f"Note: {text}")


def _budget(n_tasks: int, groups: int | None, cost: float | None, head_cost: float) -> Any:
    """What may be spent on groups; nothing for 0 groups.

    Raises:
        RecipeError: If no groups are asked for, and a cost of them is given.
    """
    from polytask.affinity.grouping import GroupBudget
    from polytask.errors import RecipeError

    if groups == 0 and cost is not None:
        raise RecipeError(f"--groups 0 asks for no groups, and --cost {cost:g} for groups that cost no more: give one.")
    if groups is None and cost is None:
        groups = max(2, round(n_tasks**0.5))
    if not groups and cost is None:
        return None
    return GroupBudget(models=groups or None, cost=cost, head_cost=head_cost)


def _seconds(budget: str) -> float | None:
    if not budget:
        return None
    from polytask.study.budget import seconds_of

    return seconds_of(budget)
