"""Further tasks without any label, on a trained network: the head of an old task under another name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from polytask.bundle import Network
from polytask.errors import RecipeError
from polytask.models.model import MultiTaskModel
from polytask.models.spec import ModelSpec
from polytask.tasks.task import Task, task_from_options
from polytask.training.extension_checks import check_untrained
from polytask.training.growth import grown
from polytask.training.known_data import label_counts
from polytask.training.starts import Line, start_from

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["copied_heads", "copied_tasks"]


def copied_tasks(recipe: Recipe, old: Task, data: Any) -> list[Task]:
    """The recipe's tasks with the options and the codec of an old one.

    Args:
        recipe: Names (and targets) of the further tasks.
        old: The task that they are like.
        data: Rows, if some were given; they must have no label of the further tasks.

    Raises:
        RecipeError: If a task cannot be like the old one, or has labels that it would not learn from.
    """
    like, tasks = old.name, []
    for name, options in recipe.tasks.items():
        wanted = {**old.options(), "name": name, "target": options.get("target", name)}
        if options.get("kind", old.kind) != old.kind:
            raise RecipeError(
                f"Task {name!r} is to be like {like!r}, which is {old.kind}, and so cannot be {options['kind']}."
            )
        task = task_from_options(wanted)
        if len(task.targets) != len(old.targets):
            raise RecipeError(
                f"Task {name!r} is to be like {like!r}, which answers {len(old.targets)} columns "
                f"({', '.join(old.targets)}), and has {len(task.targets)}: give it as many, "
                f"{{{name}: {{target: [...]}}}} in Python."
            )
        task.load_state(old.state())
        tasks.append(task)
    if data is not None and (found := label_counts(data, tasks)):
        name, count = next(iter(found.items()))
        raise RecipeError(
            f"`like` is for a task without any label, and the data have {count:,} of {name!r}: leave `like` "
            "(--like) out to learn from them, or the data to take the old head over as it is."
        )
    check_untrained(recipe, like)
    return tasks


def copied_heads(network: Network, tasks: Sequence[Task], like: str) -> tuple[ModelSpec, MultiTaskModel]:
    """The network with a copy of an old task's head (and its own parameters below) for each further task.

    Raises:
        RecipeError: If the old head is not one linear layer.
    """
    spec, model = grown(network.spec, network.model, tasks)
    for task in tasks:
        same = Line(like, torch.eye(task.n_outputs).double(), torch.zeros(task.n_outputs).double(), 1.0)
        if not start_from(model, task.name, same):
            raise RecipeError(f"The head of {like!r} has hidden layers, and only a linear one is taken over.")
    return spec, model
