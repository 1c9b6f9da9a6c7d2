"""The data and tasks of a recipe: opened, inferred, divided, and ready for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from polytask.data.reads import Reads, is_of_files
from polytask.data.vocabulary import Vocabulary
from polytask.errors import RecipeError, UnknownNameError
from polytask.options import check_options
from polytask.tasks import registry as kinds
from polytask.tasks.infer import explain_kind
from polytask.tasks.task import Task
from polytask.training.column_data import ColumnData, column_data
from polytask.training.constraint_spec import ConstraintSpec, read_constraint
from polytask.training.data_sets import DataSet, TableData
from polytask.training.dividing import splitter_of
from polytask.training.importance import Importance, add_importance
from polytask.training.preparation import Prepared, Splitter, prepare
from polytask.training.row_columns import add_groups, add_ranked, add_task_weights
from polytask.training.streamed_data import StreamedTable
from polytask.training.task_control import CONTROLS, TaskControl, task_control

if TYPE_CHECKING:
    from polytask.recipe import Recipe, SourceSpec

__all__ = [
    "conditions_of",
    "controls_of",
    "importance_of",
    "is_table",
    "make_tasks",
    "open_data",
    "prepare_recipe",
    "prepare_sets",
    "targets_of",
]


def open_data(recipe: Recipe, data: Any) -> list[DataSet]:
    """The data sets of a recipe: from its paths, or from what is given in Python."""
    given: Mapping[str, Any]
    if data is None:
        given = {name: spec.path for name, spec in recipe.data.items()}
        with_path = [name for name, path in given.items() if path is not None]
        if with_path and len(with_path) < len(given):
            raise RecipeError(_without_path(next(name for name, path in given.items() if path is None), with_path))
        if not with_path:
            raise RecipeError(
                "The recipe names no data: give it a path, `data: table.csv`, or in Python pass a table to run()."
            )
    elif isinstance(data, DataSet):
        given = {data.name: data}
    elif isinstance(data, list) and data and all(isinstance(d, DataSet) for d in data):
        given = {d.name: d for d in data}
    elif isinstance(data, Mapping) and data and not is_table(data):
        given = data
    else:
        given = {next(iter(recipe.data), "data"): data}
    targets = [target for name, options in recipe.tasks.items() for target in targets_of(name, options)]
    beside = [str(options["row_weights"]) for options in recipe.tasks.values() if options.get("row_weights")]
    grouped = recipe.split.column if recipe.split.method == "grouped" else None
    vocabulary = Vocabulary()  # one for all sources, because one network reads them

    def opened(name: str, d: Any) -> DataSet:
        spec = recipe.source(name)
        if isinstance(d, DataSet):
            return d
        if spec.reads is not None or is_of_files(d):
            return _column(name, d, spec, vocabulary)
        return _table(name, d, spec, targets, grouped, beside)

    return [opened(name, d) for name, d in given.items()]


def _without_path(name: str, with_path: list[str]) -> str:
    """What to do about a source without a path, beside others that have one; it may be a name that was misspelt."""
    near = UnknownNameError.nearest(name, with_path)
    hint = f" Did you mean {near!r}?" if near else ""
    return (
        f"Source {name!r} has settings but no path, and {', '.join(map(repr, with_path))} "
        f"{'has' if len(with_path) == 1 else 'have'} one.{hint} Give it a path, or take its settings out."
    )


def is_table(data: Mapping[str, Any]) -> bool:
    """Whether a mapping is one table, column by column, and not several tables."""
    return all(isinstance(v, np.ndarray | list | tuple | pd.Series) for v in data.values())


def _table(
    name: str, data: Any, spec: SourceSpec, targets: list[str], grouped: str | None, beside: list[str]
) -> TableData:
    settings: dict[str, Any] = {
        "inputs": spec.inputs,
        "drop": spec.drop,
        "group": grouped,
        "beside": [*beside, *([spec.importance] if isinstance(spec.importance, str) else [])],
        "targets": targets,
        "row_weights": spec.row_weights,
        "allow": spec.allow,
        "options": {"scaling": spec.scaling, "kinds": spec.kinds},
    }
    if not spec.streamed:
        return TableData(name, data, **settings)
    if spec.streamed is not True:
        settings["window"] = spec.streamed
    return StreamedTable(name, data, **settings)


def _column(name: str, data: Any, spec: SourceSpec, vocabulary: Vocabulary) -> ColumnData:
    """A data set whose one column is read whole, by an encoder of texts, images or recordings.

    Raises:
        RecipeError: If something is said about further input columns.
    """
    said = [key for key in ("inputs", "drop", "kinds", "allow", "importance") if getattr(spec, key)]
    if said:
        raise RecipeError(
            f"The encoder of source {name!r} reads one column ({spec.reads.column if spec.reads else 'its files'}) and "
            f"no others, so {', '.join(said)} cannot be set for it: take that out, or `reads`."
        )
    reads = Reads(**spec.reads.model_dump() if spec.reads is not None else {})
    return column_data(name, data, reads, vocabulary=vocabulary, row_weights=spec.row_weights, streamed=spec.streamed)


def targets_of(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The target columns of a task of a recipe."""
    if "kind" in options and kinds.load(options["kind"]).of_inputs:
        return ()
    target = options.get("target") or name
    return (target,) if isinstance(target, str) else tuple(target)


def make_tasks(recipe: Recipe, data: list[DataSet]) -> tuple[list[Task], list[str]]:
    """The tasks of a recipe; kinds that are not given are inferred, and the notes say why."""
    tasks: list[Task] = []
    inferred: dict[str, list[tuple[str, str]]] = {}
    for name, options in recipe.tasks.items():
        kind = options.get("kind")
        if kind is None:
            kind, reason = _infer(name, options, data)
            inferred.setdefault(kind, []).append((name, reason))
        rest = {key: value for key, value in options.items() if key not in ("kind", *CONTROLS)}
        for key in ("target", "inputs"):
            if isinstance(rest.get(key), list):
                rest[key] = tuple(rest[key])
        tasks.append(kinds.create(kind, name=name, **rest))
    return tasks, _inferred_notes(inferred)


def _inferred_notes(inferred: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """Why tasks are of the kind that they are; of a hundred tasks of one kind in one sentence, not in a hundred."""
    notes = []
    for kind, tasks in inferred.items():
        if len(tasks) <= 8:
            notes += [f"Task {name!r} is taken as {kind}: {reason}." for name, reason in tasks]
            continue
        (first, reason), names = tasks[0], ", ".join(repr(name) for name, _ in tasks[:4])
        notes.append(
            f"Tasks {names} and {len(tasks) - 4} more are taken as {kind}, each by its labels; {first!r}: {reason}."
        )
    return notes


def _infer(name: str, options: Mapping[str, Any], data: list[DataSet]) -> tuple[str, str]:
    targets = targets_of(name, options)
    if len(targets) > 1:
        return "multilabel", "it has several target columns"
    # Any kind finds the labels; regression is only asked where they are.
    probe = kinds.create("regression", name=name, target=targets[0], source=options.get("source"))
    for data_set in data:
        if data_set.has(probe):
            return explain_kind(data_set.labels(probe), name)
    return "regression", "no data set has labels of it"


def prepare_recipe(recipe: Recipe, data: Any = None, splitter: Splitter | None = None) -> Prepared:
    """The data of a recipe, ready for training; divided by the splitter, if there is one, else as the recipe says."""
    data_sets = open_data(recipe, data)
    prepared = prepare_sets(recipe, data_sets, splitter)
    specs = [read_constraint(given) for given in recipe.constraints]
    add_groups(prepared, data_sets, [c.by for c in specs if isinstance(c, ConstraintSpec) and c.by is not None])
    asked = {name: importance_of(name, spec) for name, spec in recipe.data.items()}
    add_importance(prepared, data_sets, {name: importance for name, importance in asked.items() if importance})
    return prepared


def prepare_sets(recipe: Recipe, data_sets: list[DataSet], splitter: Splitter | None = None) -> Prepared:
    """Data sets that are open, with what the recipe's tasks say about their rows."""
    tasks, notes = make_tasks(recipe, data_sets)
    controls = controls_of(recipe)
    for data_set in data_sets:
        data_set.conditions = conditions_of(recipe)
    prepared = prepare(data_sets, tasks, splitter or splitter_of(recipe.split, recipe.seed, data_sets, tasks))
    prepared.notes[:0] = notes
    add_task_weights(prepared, data_sets, {n: c.row_weights for n, c in controls.items() if c.row_weights is not None})
    add_ranked(prepared, data_sets, {n: c.ranked_by for n, c in controls.items() if c.ranked_by is not None})
    return prepared


def importance_of(name: str, spec: SourceSpec) -> Importance | None:
    """How a source's training rows are weighted.

    Raises:
        RecipeError: If an option is not known or out of range; names the source.
    """
    given = spec.importance
    if given is None:
        return None
    options = {"column": given} if isinstance(given, str) else given
    check_options(f"importance of source {name!r}", Importance, options)
    try:
        return Importance(**options)
    except (RecipeError, TypeError) as error:
        raise RecipeError(f"Source {name!r}: {error}") from None


def controls_of(recipe: Recipe) -> dict[str, TaskControl]:
    """Settings of the tasks that have their own."""
    found = {name: task_control(name, options) for name, options in recipe.tasks.items()}
    return {name: control for name, control in found.items() if control != TaskControl()}


def conditions_of(recipe: Recipe) -> dict[str, Mapping[str, Any]]:
    """Of the tasks that are only defined on some rows, the values that other columns have there."""
    return {name: control.only_where for name, control in controls_of(recipe).items() if control.only_where}
