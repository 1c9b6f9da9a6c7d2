"""What is asked of an extension, before anything is read: whether it can be done, and done together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polytask.errors import RecipeError, UnknownNameError
from polytask.training.opening import controls_of
from polytask.training.planning import check_device

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["STARTS", "check_asked", "check_untrained"]

STARTS = ("closest", "fresh")


def check_asked(recipe: Recipe, options: Mapping[str, Any], old_data: Any) -> None:
    """Raise if settings contradict each other, or one of them has no meaning for an extension.

    Args:
        recipe: Tasks, split and training of the extension.
        options: ``unfreeze``, ``remedies``, ``start``, ``like`` and ``adapters``, as they were asked for.
        old_data: The old model's data, if they were given.

    Raises:
        UnknownNameError: If there is no such start.
        RecipeError: Naming the setting and what to do.
    """
    like, unfreeze = options["like"], options["unfreeze"]
    if options["start"] not in STARTS:
        raise UnknownNameError("start", options["start"], STARTS)
    if options["remedies"] and not unfreeze:
        raise RecipeError("With the network frozen nothing is forgotten: take the remedies out, or unfreeze.")
    if old_data is not None and not unfreeze:
        raise RecipeError(
            "The old data are for an unfrozen network: in a frozen one the old tasks answer as before, bit for bit, "
            "and nothing is measured on them. Take old_data (--old-data) out, or unfreeze."
        )
    if options["adapters"] is not None and (unfreeze or like is not None):
        what = "an unfrozen network learns in its own layers" if unfreeze else "a task without labels learns nothing"
        raise RecipeError(f"Adapters are for new tasks on a frozen network, and {what}: take the adapters out.")
    check_device(recipe.training)
    if like is not None:
        _check_copies(recipe, like, unfreeze=unfreeze)
    for name, control in controls_of(recipe).items():
        if control.patience is not None:
            raise RecipeError(
                f"Task {name!r} has a patience of its own, and an extension keeps one epoch for all its new tasks: "
                "give training.patience, or add the task in an extension of its own."
            )


def check_untrained(recipe: Recipe, like: str) -> None:
    """Raise if a task that takes another one's head over is to be trained.

    Raises:
        RecipeError: Naming the settings.
    """
    for what, given in (("training", recipe.training), ("split", recipe.split.model_fields_set)):
        if given:
            raise RecipeError(f"{_learns_nothing(like)}: take the settings of {what} out ({', '.join(sorted(given))}).")


def _check_copies(recipe: Recipe, like: str, *, unfreeze: bool) -> None:
    if unfreeze:
        raise RecipeError(f"{_learns_nothing(like)}, and the network stays as it is: take unfreeze (--unfreeze) out.")
    for name, options in recipe.tasks.items():
        if others := sorted(set(options) - {"kind", "target"}):
            raise RecipeError(
                f"Task {name!r} is to be like {like!r}, whose options it takes over as they are: take "
                f"{', '.join(others)} out, or leave `like` (--like) out and give the task labels to learn from."
            )


def _learns_nothing(like: str) -> str:
    return f"A task that takes the head of {like!r} over learns nothing"
