"""The parts of a training from their names: the network, the schedule, the remedies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from polytask.errors import RecipeError
from polytask.models.building import build_model
from polytask.models.corruption import Corruption
from polytask.models.model import MultiTaskModel
from polytask.models.spec import ModelSpec
from polytask.tasks.reconstruction import Reconstruction
from polytask.training.plan import Plan
from polytask.training.preparation import Prepared
from polytask.training.remedies import registry as remedies
from polytask.training.remedy import Remedy
from polytask.training.schedule import Schedule
from polytask.training.schedules import registry as schedules

__all__ = ["make_remedies", "make_schedule", "network_of", "spec_of"]


def spec_of(prepared: Prepared, plan: Plan) -> ModelSpec:
    """The network of a plan as plain data."""
    rebuilding = [task for task in prepared.tasks if isinstance(task, Reconstruction)]
    return ModelSpec(
        inputs=prepared.shapes,
        n_outputs={task.name: task.n_outputs for task in prepared.tasks},
        encoder=plan.encoder,
        sharing=plan.sharing,
        encoder_options=plan.encoder_options,
        sharing_options=plan.sharing_options,
        head_hidden=plan.head_hidden,
        head_hidden_of={task.name: task.hidden for task in rebuilding},
        corruptions={task.name: Corruption(task.corruption, task.share) for task in rebuilding},
        links={task.name: task.link for task in prepared.tasks},
        views=prepared.views,
        element_tasks=tuple(task.name for task in prepared.tasks if task.of_elements),
        pixel_tasks=tuple(task.name for task in prepared.tasks if task.of_pixels),
        own_norms=tuple(source for source in plan.own_norms if source in prepared.shapes),
    )


def network_of(prepared: Prepared, plan: Plan, module: nn.Module | None = None) -> tuple[ModelSpec, MultiTaskModel]:
    """The network of a plan, drawn anew, its heads at the constant prediction.

    Raises:
        PolytaskError: If a name or an option is not known, or the sharing has no meaning for the tasks.
    """
    spec = spec_of(prepared, plan)
    model = build_model(spec, module)
    model.sharing.check_kinds({task.name: task.kind for task in prepared.tasks})
    model.start_at({task.name: task.initial_bias() for task in prepared.tasks})
    return spec, model


def make_schedule(name: str, options: Mapping[str, Any]) -> tuple[Schedule, list[Remedy]]:
    """The schedule and its remedies, from names and options.

    Raises:
        UnknownNameError: If one of them is not known.
        RecipeError: If an option is not one of theirs.
    """
    given = dict(options)
    made = make_remedies(given.pop("remedies", None) or [])
    if made and name == "joint":
        raise RecipeError("Schedule 'joint' forgets nothing, so it takes no remedies; choose 'sequential' or another.")
    return schedules.create(name, **given), made


def make_remedies(asked: Any) -> list[Remedy]:
    """Remedies from names, or names with options.

    Raises:
        UnknownNameError: If one of them is not known.
        RecipeError: If one has no name, or an option is not one of its own.
    """
    listed = asked if isinstance(asked, list | tuple) else [asked]
    if not all(isinstance(one, str) or (isinstance(one, Mapping) and "name" in one) for one in listed):
        raise RecipeError(f"Each remedy is a name, or a mapping such as {{name: ewc, strength: 100}}; got {asked!r}.")
    named = [{"name": one} if isinstance(one, str) else dict(one) for one in listed]
    names = [str(one["name"]) for one in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"The remedy {twice[0]!r} comes twice; once is enough, with a higher strength if need be.")
    return [remedies.create(one.pop("name"), **one) for one in named]
