"""Options of the command line as plain data."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.errors import RecipeError

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["changed_recipe", "data_and_tasks", "listed_methods", "method_options", "separated", "task_options"]


def separated(text: str) -> list[str]:
    r"""Names between commas; ``\,`` is a comma in a name.

    Example:
        >>> separated(r"a, b,c\,d")
        ['a', 'b', 'c,d']
    """
    names = [name.strip().replace("\0", ",") for name in text.replace("\\,", "\0").split(",")]
    return [name for name in names if name]


def listed_methods(option: str, text: str) -> list[str]:
    """Names of methods between commas; none for no text at all.

    Raises:
        RecipeError: If there is text and no name in it.

    Example:
        >>> listed_methods("--remedies", "ewc,replay"), listed_methods("--remedies", "")
        (['ewc', 'replay'], [])
    """
    names = separated(text)
    if text and not names:
        raise RecipeError(f"{option} names nothing, got {text!r}; leave it out, or name one.")
    return names


def task_options(targets: str) -> dict[str, dict[str, Any]]:
    """Targets as they are written, each with its kind after a colon, as options of tasks by name.

    Raises:
        RecipeError: If a target is named twice.

    Example:
        >>> task_options("visits:count,price")
        {'visits': {'kind': 'count'}, 'price': {}}
    """
    tasks: dict[str, dict[str, Any]] = {}
    for entry in separated(targets):
        name, colon, kind = entry.rpartition(":")
        name = name if colon else entry
        if name in tasks:
            raise RecipeError(f"--targets names {name!r} twice.")
        tasks[name] = {"kind": kind} if colon else {}
    return tasks


def method_options(settings: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Settings with ``path.to.setting=value`` put in; values are read as YAML.

    Raises:
        RecipeError: If an override has no ``=``, goes through something that holds no settings, or is no YAML.

    Example:
        >>> method_options({"sharing": "hard"}, ["sharing.ratio=0.5", "training.epochs=3"])
        {'sharing': {'name': 'hard', 'ratio': 0.5}, 'training': {'epochs': 3}}
    """
    import yaml

    changed = copy.deepcopy(settings)
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path:
            raise RecipeError(f"--set needs NAME=VALUE, such as training.epochs=5; got {override!r}.")
        *parents, last = path.split(".")
        node = changed
        for parent in parents:
            below = node.setdefault(parent, {})
            if isinstance(below, str):
                below = node[parent] = {"name": below}
            if not isinstance(below, dict):
                raise RecipeError(f"--set {override}: {parent!r} holds no settings.")
            node = below
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            why = str(error).replace('"<unicode string>"', "the value")
            raise RecipeError(f"--set {override}: the value is no YAML: {why}") from error
    return changed


def changed_recipe(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """A recipe with ``path.to.setting=value`` put in; settings of a source may stand alone where there is but one.

    Raises:
        RecipeError: If an override is none, or is of a source and there are several.

    Example:
        >>> from polytask import Recipe
        >>> changed = changed_recipe(Recipe(tasks=["stars"], data="reviews.csv"), ["kinds.review=words", "seed=3"])
        >>> changed.data["data"].kinds, changed.seed
        ({'review': 'words'}, 3)
    """
    from polytask.recipe import Recipe, SourceSpec

    of_source: list[str] = []
    others: list[str] = []
    for override in overrides:
        name = override.partition("=")[0].partition(".")[0]
        is_own = name in SourceSpec.model_fields and name not in Recipe.model_fields
        (of_source if is_own else others).append(override)
    plain = recipe.plain()
    if of_source:
        sources = list(recipe.data)
        if len(sources) != 1:
            raise RecipeError(
                f"--set {of_source[0]} is a setting of a source, and the recipe has {len(sources)}: write "
                f"data.SOURCE.{of_source[0]}, SOURCE one of {', '.join(sources) or 'those that the recipe names'}."
            )
        data = plain["data"]
        data[sources[0]] = method_options(data.get(sources[0]) or {}, of_source)
    return Recipe(**method_options(plain, others))


def data_and_tasks(
    data: Path, targets: str, inputs: str, drop: str, settings: list[str]
) -> tuple[Any, dict[str, Any] | None, dict[str, Any]]:
    """The data, the tasks and other options; or a recipe and nothing else.

    Raises:
        RecipeError: If there are no tasks, or a recipe and an option both name them.
    """
    from polytask.recipe import Recipe

    if data.suffix in (".yaml", ".yml", ".json"):
        if given := [name for name, text in (("targets", targets), ("inputs", inputs), ("drop", drop)) if text]:
            raise RecipeError(f"The recipe names its tasks and inputs: give either a recipe or --{given[0]}.")
        return changed_recipe(Recipe.load(data), settings), None, {}
    if not targets:
        raise RecipeError("Which columns are to be predicted? Give --targets a,b,c.")
    options = method_options({"tasks": task_options(targets)}, settings)
    tasks = options.pop("tasks")
    options |= {name: separated(text) for name, text in (("inputs", inputs), ("drop", drop)) if text}
    return data, tasks, options
