"""What a recipe wants trained, checked before any data are read and made a plan once they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch

from polytask.balancing import registry as balancers
from polytask.balancing.multipliers import registry as multipliers
from polytask.data.augmentations import registry as augmentations
from polytask.data.samplers import registry as samplers
from polytask.errors import RecipeError, UnknownNameError
from polytask.models.encoders import registry as encoders
from polytask.models.sharing import registry as sharings
from polytask.tasks import registry as kinds
from polytask.training.building import make_schedule
from polytask.training.constraint_spec import read_constraint
from polytask.training.defaults import for_tables
from polytask.training.opening import controls_of
from polytask.training.plan import Plan
from polytask.training.preparation import Prepared
from polytask.training.schedules import registry as schedules
from polytask.training.settings import Settings

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["check_device", "check_names", "check_stop_rule", "plan_of"]


def check_names(recipe: Recipe) -> None:
    """Raise if a method is not known, or the device is not there.

    Raises:
        UnknownNameError: Naming the nearest one.
        RecipeError: If PyTorch cannot use the device.
    """
    check_device(recipe.training)
    for registry, name in (
        (encoders, recipe.encoder.name),
        (sharings, recipe.sharing.name),
        (balancers, recipe.balancer.name),
        (samplers, recipe.sampler.name),
        (schedules, recipe.schedule.name),
        (multipliers, recipe.multipliers.name),
        *((augmentations, choice.name) for spec in recipe.data.values() for choice in spec.augment),
        *((kinds, str(options["kind"])) for options in recipe.tasks.values() if options.get("kind") is not None),
    ):
        if not registry.knows(name) and not (registry is encoders and name == "auto"):
            raise UnknownNameError(registry.noun or registry.role, name, registry.names())
    schedule, _ = make_schedule(recipe.schedule.name, recipe.schedule.options)
    if left := schedule.never_trains(tuple(recipe.tasks)):
        raise RecipeError(
            f"Schedule {recipe.schedule.name!r} trains no stage of {', '.join(left)}, which would answer as untrained "
            "networks do: name them in the schedule too, or take them out of the tasks."
        )


def check_device(training: Mapping[str, Any]) -> None:
    """Raise if the device of a training is not there.

    Raises:
        RecipeError: If PyTorch cannot use it.
    """
    device = training.get("device", "cpu")
    try:
        torch.zeros(1, device=device).item()  # a device without memory, such as meta, makes tensors and no numbers
    except (RuntimeError, AssertionError) as error:  # a build without CUDA says so by an assertion
        reason = str(error).partition("Expected one of")[0].partition(". ")[0].strip()
        raise RecipeError(
            f"training.device {device!r} cannot be used: {reason or 'PyTorch knows no such device'}. Usual ones are "
            "cpu, cuda, cuda:1 and mps, as far as this PyTorch and this machine have them."
        ) from error


def check_stop_rule(settings: Settings, tasks: Collection[str]) -> None:
    """Raise if the stop rule is the loss of a task that there is not.

    Raises:
        UnknownNameError: Naming the nearest one.
    """
    decides = settings.stop_rule.removeprefix("task:")
    if decides != settings.stop_rule and decides not in tasks:
        raise UnknownNameError("task", decides, tasks, "stop_rule")


def plan_of(
    recipe: Recipe, prepared: Prepared, *, has_module: bool = False, tasks: Collection[str] | None = None
) -> Plan:
    """What to train, with ``auto`` resolved by the shapes of the inputs.

    Args:
        recipe: What was asked for.
        prepared: The data, of all tasks or some.
        has_module: Whether the user brings an encoder.
        tasks: Names of all tasks, where the data is of some.

    Raises:
        UnknownNameError: If the stop rule is the loss of a task that there is not.
    """
    here_now = [task.name for task in prepared.tasks]
    encoder = recipe.encoder.name
    if encoder == "auto":
        encoder = "module" if has_module else _encoder_for(prepared)
    n_rows = max(map(len, prepared.train.values()))
    usual = for_tables(n_rows, recipe.training) if encoders.load(encoder).has_table_settings else {}
    settings = Settings.from_options({**usual, **recipe.training, "seed": recipe.seed})
    check_stop_rule(settings, tasks or here_now)
    plan = Plan(
        encoder=encoder,
        sharing=recipe.sharing.name,
        balancer=recipe.balancer.name,
        sampler=recipe.sampler.name,
        encoder_options=recipe.encoder.options,
        sharing_options=recipe.sharing.options,
        balancer_options=recipe.balancer.options,
        sampler_options=recipe.sampler.options,
        head_hidden=tuple(recipe.head_hidden),
        settings=settings,
        schedule=recipe.schedule.name,
        schedule_options=recipe.schedule.options,
        constraints=tuple(read_constraint(given) for given in recipe.constraints),
        multipliers=recipe.multipliers.name,
        multipliers_options=recipe.multipliers.options,
        controls=controls_of(recipe),
        augment={
            name: [(a.name, a.options) for a in spec.augment] for name, spec in recipe.data.items() if spec.augment
        },
        own_norms=tuple(name for name, spec in recipe.data.items() if spec.own_norms),
    )
    return plan.of(here_now)


def _encoder_for(prepared: Prepared) -> str:
    shapes = list(prepared.shapes.values())
    if all({"numeric", "molecule", "categorical"} & set(shape.fields) for shape in shapes):
        return "tabm"
    if all("words" in shape.fields for shape in shapes):
        return "bigru"
    if all(len(shape.fields) == 1 and len(next(iter(shape.fields.values())).shape) in (2, 3) for shape in shapes):
        return "cnn"
    return "mlp"
