"""The training of a plan, put together from its parts: batches, balancer, constraints, remedies."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from polytask.balancing import registry as balancers
from polytask.balancing.constrained import Constrained
from polytask.balancing.multipliers import registry as multiplier_methods
from polytask.data.plan import BatchPlan
from polytask.data.samplers import registry as samplers
from polytask.errors import RecipeError
from polytask.models.model import MultiTaskModel
from polytask.training.additions import Additions
from polytask.training.bounds import Bound, bounds_of
from polytask.training.building import network_of
from polytask.training.constraint_spec import ALL, ConstraintSpec, WeightRule
from polytask.training.constraints import Constraints
from polytask.training.feed import Feed
from polytask.training.listeners import Listeners
from polytask.training.loop import Training
from polytask.training.plan import Plan
from polytask.training.preparation import Prepared
from polytask.training.projections import Projection
from polytask.training.remedy import Remedy
from polytask.training.settings import Settings
from polytask.training.variation import Variation

__all__ = ["check_constraints", "constraints_of", "training_of"]


def training_of(
    model: MultiTaskModel,
    plan: Plan,
    prepared: Prepared,
    settings: Settings,
    listeners: Listeners | None = None,
    remedies: Sequence[Remedy] = (),
    factors: Mapping[nn.Parameter, float] | None = None,
) -> Training:
    """The training of one stage of a schedule (the only one of ``joint``)."""
    rows = {name: len(source) for name, source in prepared.train.items()}
    blocks = {name: source.blocks for name, source in prepared.train.items() if source.blocks is not None}
    if settings.alike_lengths and (both := [name for name in blocks if name in prepared.texts]):
        raise RecipeError(
            f"Texts of {both[0]!r} are read from their file block by block, and batches are not of alike lengths: "
            "take training.alike_lengths out, or write them as CSV or JSON lines, or take `streamed` out."
        )
    lengths = {name: source.lengths for name, source in prepared.train.items() if settings.alike_lengths}
    order = {"blocks": blocks, "lengths": {name: found for name, found in lengths.items() if found is not None}}
    batches, draws_per_step = _batches(replace(plan, settings=settings), rows, order)
    balancer = balancers.create(plan.balancer, **plan.balancer_options)
    constraints = constraints_of(plan, prepared, model, of_stage=True)
    if constraints.bounds:
        multipliers = multiplier_methods.create(plan.multipliers, **plan.multipliers_options)
        balancer = Constrained(balancer, multipliers, constraints.names)
    variation = Variation(plan.augment, prepared.shapes, settings.seed, prepared.tasks)
    feed = Feed(prepared.train, batches, draws_per_step, variation, settings.load_seconds, settings.read_ahead)
    additions = Additions(remedies, factors or {}, constraints, plan.controls)
    return Training(model, prepared.tasks, feed, prepared.validation, balancer, settings, additions, listeners)


def constraints_of(plan: Plan, prepared: Prepared, model: MultiTaskModel, *, of_stage: bool = False) -> Constraints:
    """The constraints of a run; of a stage only those on its tasks, with multipliers that start anew."""
    bounds = [spec for spec in plan.constraints if isinstance(spec, ConstraintSpec)]
    if of_stage:
        bounds = [spec for spec in bounds if spec.task in (ALL, *(task.name for task in prepared.tasks))]
    rules = [rule for rule in plan.constraints if isinstance(rule, WeightRule)]
    links = {task.name: task.link for task in prepared.tasks}
    resolved = _bounds(plan, prepared, bounds, plan.single_losses)
    return Constraints(resolved, links, Projection(model, rules) if rules else None)


def _bounds(
    plan: Plan, prepared: Prepared, specs: Sequence[ConstraintSpec], single_losses: Mapping[str, float]
) -> list[Bound]:
    """The inequalities; an error if one is on a task whose answers come from a network of its own best epoch."""
    resolved = bounds_of(specs, prepared.tasks, prepared.groups, single_losses)
    for bound in resolved:
        if bound.task.name in plan.controls and plan.controls[bound.task.name].patience is not None:
            raise RecipeError(
                f"{bound.name}: task {bound.task.name!r} has a patience of its own, so that another network than the "
                "one whose constraints are kept answers it. Take the patience or the constraint out."
            )
    return resolved


def check_constraints(plan: Plan, prepared: Prepared, module: nn.Module | None = None) -> None:
    """Raise if constraints cannot be kept, before the single models are trained that some are compared with.

    Raises:
        RecipeError: If a task, a metric, a group or a parameter is not known, two constraints exclude each other, or a
            task that is compared with its single model has no validation label.
    """
    validated = {task for source in prepared.validation.values() for task in source.tasks if source.coverage(task)}
    # The single models' losses are not known yet; NaN in their place makes no two bounds contradict each other.
    losses = dict.fromkeys(validated, math.nan)
    _bounds(plan, prepared, [spec for spec in plan.constraints if isinstance(spec, ConstraintSpec)], losses)
    if rules := [rule for rule in plan.constraints if isinstance(rule, WeightRule)]:
        with torch.random.fork_rng(devices=[]):  # the parameters that are drawn are thrown away
            _, model = network_of(prepared, plan, copy.deepcopy(module))
        Projection(model, rules)


def _batches(plan: Plan, rows: Mapping[str, int], order: Mapping[str, Any]) -> tuple[BatchPlan, int]:
    """The batches of the training, and how many of them make one step.

    A balancer that changes weights compares tasks, so it needs those of all sources in one step; then an epoch is one
    pass over the source with the most batches, and the others are gone through again as often as that takes.
    """
    settings = plan.settings
    wanted = settings.together
    if wanted is None:
        wanted = plan.balancer not in ("equal", "fixed") and plan.sampler == "proportional"
    if not wanted or len(rows) == 1:
        sampler = samplers.create(plan.sampler, **plan.sampler_options)
        return BatchPlan(rows, settings.batch_size, sampler, seed=settings.seed, **order), 1
    if plan.sampler != "proportional":
        raise RecipeError(
            f"A step with a batch of every source leaves nothing to the sampler {plan.sampler!r}: "
            "take training.together out, or the sampler."
        )
    in_turn = samplers.create("round_robin")
    once = BatchPlan(rows, settings.batch_size, in_turn, seed=settings.seed)
    n_steps = len(rows) * max(once.n_batches.values())
    batches = BatchPlan(rows, settings.batch_size, in_turn, seed=settings.seed, steps_per_epoch=n_steps, **order)
    return batches, len(rows)
