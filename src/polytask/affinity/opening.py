"""From what is given to prepared data: a table, several, or a long one, each value of a column of which is a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytask.affinity.ground import Groups
from polytask.data.long import LongTable
from polytask.errors import DataError, RecipeError
from polytask.recipe import Recipe, SourceSpec
from polytask.tasks.infer import explain_kind
from polytask.training.data_sets import DataSet, TableData
from polytask.training.opening import open_data, prepare_recipe
from polytask.training.preparation import Prepared

__all__ = ["open_prepared"]

_Ready = tuple[Recipe, Prepared, Groups | None]

_FEWEST = 10
"""Labels that a value of a long table's column needs to become a task."""


def open_prepared(
    data: Any, targets: Any, seed: int, settings: Mapping[str, Any], by: str | None = None, group: str | None = None
) -> _Ready:
    """The recipe of the networks, the data divided, encoded and ready, and the groups of the training rows, if any.

    Args:
        data: A table (a path, a data frame), data sets by name, or a recipe that names its data.
        targets: Target columns; or options by task name; a recipe has its own.
        seed: Of the split and of the networks.
        settings: Settings of a recipe; ``inputs``, ``drop`` and the like of the one table.
        by: Column of a long table: each value of it is a task with rows of its own.
        group: Column of groups, in place of that of a split by groups; in several sources it is in each of them.

    Raises:
        PolytaskError: If data or settings cannot be used.
    """
    if group is not None:
        given = settings.get("split") or (data.plain().get("split", {}) if isinstance(data, Recipe) else {})
        settings = {**settings, "split": _by_group(given, group)}
    if isinstance(data, Recipe):
        return _of_recipe(data, seed, settings, by)
    if targets is None:
        raise RecipeError("Which columns are the targets? Name them, or give a recipe.")
    known = dict(settings)
    source: dict[str, Any] = {key: known.pop(key) for key in list(known) if key in SourceSpec.model_fields}
    name = Path(data).stem if isinstance(data, str | Path) else "data"
    if isinstance(data, str | Path) and by is None:
        source["path"] = str(data)
    if source:
        known["data"] = {name: source}
    recipe = Recipe(tasks=targets, seed=seed, **known)
    if by is None:
        return _prepared(recipe, None if isinstance(data, str | Path) else data)
    if isinstance(data, Mapping) and any(isinstance(value, DataSet) for value in data.values()):
        raise DataError(f"Tasks by the values of {by!r} are made of the rows of one table, got several data sets.")
    return _by_value(recipe, data, name, by, known)


def _by_group(split: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The split with rows kept together by a column; its shares stay.

    Raises:
        RecipeError: If another column says already which rows are tested.
    """
    if split.get("method") in ("time", "given"):
        way = "by time" if split["method"] == "time" else "as a column says"
        raise RecipeError(
            f"Rows are divided by the groups of {group!r} or {way} ({split.get('column')!r}), not by both: give "
            "either the group (--group) or the split."
        )
    return {**split, "method": "grouped", "column": group}


def _of_recipe(given: Recipe, seed: int, settings: Mapping[str, Any], by: str | None) -> _Ready:
    """A recipe names its tasks and its data; several sources too."""
    recipe = Recipe(**{**given.plain(), **settings, "seed": seed})
    if by is None:
        return _prepared(recipe, None)
    paths = {name: spec.path for name, spec in recipe.data.items()}
    if len(paths) != 1 or None in paths.values():
        raise RecipeError(f"Tasks by {by!r} are made of the rows of one table; the recipe names {len(paths)}.")
    ((name, path),) = paths.items()
    known = {key: value for key, value in recipe.plain().items() if key not in ("tasks", "data", "seed")}
    return _by_value(recipe, path, name, by, known)


def _by_value(recipe: Recipe, data: Any, name: str, by: str, known: Mapping[str, Any]) -> _Ready:
    """Each value of a column as a task; the kind is that of the whole column of labels."""
    columns = {task: str(options.get("target") or task) for task, options in recipe.tasks.items()}
    table = LongTable(data, by, list(columns.values()), _FEWEST)
    options = {columns[task]: dict(given) for task, given in recipe.tasks.items()}
    for column, given in options.items():
        given.pop("target", None)
        given.setdefault("kind", explain_kind(table.base.column(column).to_numpy(), column)[0])
    tasks = {made: {**options[column], "target": made} for made, column in table.target_of.items()}
    spec = recipe.source(name)
    hidden = {*spec.drop, by, _grouped_by(recipe), *columns.values(), *table.target_of}
    made = TableData(
        name,
        table,
        inputs=spec.inputs or [column for column in table.names if column not in hidden],
        targets=list(table.target_of),
        row_weights=spec.row_weights,
        # A column of one value's labels is no copy of an input that is a copy of the whole column: said before.
        allow=spec.allow,
        options={"kinds": spec.kinds, "scaling": spec.scaling},
    )
    each = Recipe(tasks=tasks, seed=recipe.seed, **known)
    ready = _prepared(each, made)
    if table.left_out:
        ready[1].notes.append(f"{len(table.left_out)} values of {by} have fewer than {_FEWEST} labels and are no task.")
    return ready


def _prepared(recipe: Recipe, data: Any) -> _Ready:
    sets = open_data(recipe, data)
    prepared = prepare_recipe(recipe, sets)
    column = _grouped_by(recipe)
    if column is None:
        return recipe, prepared, None
    return recipe, prepared, {one.name: one.column(column)[prepared.splits[one.name].train] for one in sets}


def _grouped_by(recipe: Recipe) -> str | None:
    return recipe.split.column if recipe.split.method == "grouped" else None
