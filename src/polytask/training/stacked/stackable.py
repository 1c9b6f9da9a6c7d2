"""Which trainings can be members of a stack, and which of them are of one shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from polytask.balancing import registry as balancers
from polytask.balancing.balancer import SEES_GRADIENTS, Balancer
from polytask.data.batch import ArraySource
from polytask.models.dropout import Dropout
from polytask.models.spec import ModelSpec
from polytask.training.building import spec_of
from polytask.training.loss_groups import loss_signature
from polytask.training.preparation import Prepared
from polytask.training.run import Plan
from polytask.training.settings import Settings
from polytask.training.stacked.begun import Begun

__all__ = ["shape_of", "why_alone", "why_built_alone"]


def why_alone(prepared: Prepared, plan: Plan) -> str:
    """Why a training has to be done by itself; empty if it may be a member of a stack, as far as its plan tells."""
    settings = plan.settings
    if plan.schedule != "joint":
        return f"its schedule is {plan.schedule}"
    if plan.constraints or plan.controls:
        return "it has constraints, or settings of single tasks"
    if any(plan.augment.values()):
        return "its batches are varied"
    if any(task.of_elements for task in prepared.tasks):
        return "a task labels the elements of its inputs"
    if prepared.texts:
        return "its inputs are texts, which are padded to the longest of each batch"
    if any(task.weight == 0.0 for task in prepared.tasks):
        return "a task has the weight 0"
    if len(prepared.train) != 1:
        return "it reads several sources"
    source = next(iter(prepared.train.values()))
    if plan.encoder == "module":
        return "its encoder is the user's own module"
    if any(task.of_inputs for task in prepared.tasks):
        return "a task rebuilds its inputs"
    if not source.is_in_memory or any(task.name not in source.tasks for task in prepared.tasks):
        return "its source is not in memory with the labels of all tasks"
    if source.task_weights:
        return "a task has row weights of its own"
    if any(t.dtype == torch.uint8 for t in _fields(source).values()):
        return "its inputs are images"
    return _why_settings(settings) or _why_balancer(balancers.create(plan.balancer, **plan.balancer_options))


def _why_settings(settings: Settings) -> str:
    if settings.regularisers:
        return "it has penalties on parameters"
    if torch.device(settings.device).type != "cpu":
        return f"it trains on {settings.device}"
    if settings.max_seconds is not None:
        return "it stops by the clock"
    if settings.deterministic or settings.load_seconds is not None:
        return "it has training.deterministic or training.load_seconds"
    if settings.precision != "fp32" or settings.recompute or settings.accumulate > 1:
        return "it trains in another precision, or computes activations again"
    return "" if settings.mode == "exact" else f"its balancer runs in the mode {settings.mode}"


def _why_balancer(balancer: Balancer) -> str:
    if balancer.needs & (SEES_GRADIENTS | {"losses_after"}):
        return f"its balancer {type(balancer).__name__} looks at more than the losses of the step"
    if type(balancer).head_weights is not Balancer.head_weights:
        return f"its balancer {type(balancer).__name__} weighs heads apart"
    return ""


def why_built_alone(begun: Begun) -> str:
    """The same, for reasons that only the built network shows; one network stands for all of its shape."""
    training = begun.training
    model = training.model
    if next(iter(model.buffers()), None) is not None:
        return "its network has state besides parameters"
    if any(isinstance(m, nn.Dropout) and not isinstance(m, Dropout) for m in model.modules()):
        return "its network draws masks of its own"
    if not all(parameter.requires_grad for parameter in model.parameters()):
        return "parameters of its network are frozen"
    return "" if training.penalty() is None else "its sharing adds a penalty"


def shape_of(prepared: Prepared, plan: Plan) -> str:
    """What the members of one stack have in common: the network but for names, the batches' size, the losses."""
    spec = spec_of(prepared, plan)
    position = {name: str(i) for i, name in enumerate(spec.n_outputs)}
    (source,) = prepared.train.values()
    extents = [list(source.targets[task.name].shape[1:]) for task in prepared.tasks]
    common = {
        "spec": _renamed(spec, position),
        "batch_size": plan.settings.batch_size,
        "losses": [loss_signature(task) or f"own {task.kind}" for task in prepared.tasks],
        "extents": extents,
        "fields": {name: [str(t.dtype), list(t.shape[1:])] for name, t in _fields(source).items()},
    }
    return json.dumps(common, sort_keys=True, default=str)


def _renamed(spec: ModelSpec, position: Mapping[str, str]) -> dict[str, Any]:
    """The specification with positions in place of the tasks' names."""
    plain = spec.to_json()
    for key in ("n_outputs", "links", "views", "head_hidden_of", "corruptions"):
        plain[key] = {position[task]: value for task, value in plain[key].items()}
    return plain


def _fields(source: ArraySource) -> dict[str, torch.Tensor]:
    return {"": source.inputs} if isinstance(source.inputs, torch.Tensor) else dict(source.inputs)
