"""The ways from losses to weights and a gradient; each mode of the engine takes one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.ghost import Ghost
from polytask.balancing.passes import (
    add_heads,
    features_gramian,
    head_passes,
    row_passes,
    shared_backward,
    weighted_backward,
)
from polytask.balancing.step import Step, add_gradients, survey
from polytask.balancing.task_rows import Rows
from polytask.errors import NonFiniteError, RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["Result", "by_features", "by_known_weights", "by_rows"]


@dataclass
class Result:
    """What a route leaves for the outcome; see :class:`~polytask.balancing.outcome.Report`."""

    route: str
    weights: Float[Tensor, " T"]
    gramian: Float[Tensor, "T T"] | None = None
    signals: Signals | None = None
    passes: int = 0
    overflow: bool = False
    layers: Mapping[str, str] = field(default_factory=dict)


def by_known_weights(step: Step, balancer: Balancer, signals: Signals) -> Result:
    """The weights follow from the losses alone: one backward."""
    weights = solve(balancer, signals)
    head_weights = balancer.head_weights(signals, weights).detach()
    if not torch.equal(weights, head_weights):
        survey(step)
    weighted_backward(step, weights, head_weights)
    return Result("one_backward", weights, None, signals, passes=1)


def by_rows(step: Step, balancer: Balancer, signals: Signals, ghost: Ghost | None = None) -> Result:
    """One gradient a task; the Gramian, the weights and the combined gradient from them."""
    survey(step)
    _need_shared(step, balancer)
    needs = balancer.needs_in(signals)
    if ghost is not None and "rows" in needs:
        step.notes.append(f"{type(balancer).__name__} needs whole gradients, so the ghost was not used")
        ghost = None
    found = head_passes(step)
    rows = Rows(step, balancer, ghost)
    row_passes(step, found, rows)
    gramian = rows.gramian() / step.unit**2
    route = "ghost" if rows.layers else "rows"
    result = Result(route, torch.zeros(len(step.losses)), gramian, passes=len(step.losses), layers=rows.decided)
    if not gramian.isfinite().all():
        _overflow(step, gramian, result)
        weights = head_weights = torch.ones(len(step.losses), dtype=torch.float64)
        combined = rows.combined(weights)
    else:
        flat = (rows.buffer.flat() if step.unit == 1 else rows.buffer.flat() / step.unit) if "rows" in needs else None
        signals = replace(signals, gramian=gramian, rows=flat)
        weights = result.weights = solve(balancer, signals)
        head_weights = balancer.head_weights(signals, weights)
        own = balancer.combine(signals, weights) if flat is not None else None
        combined = rows.combined(weights) if own is None else rows.split(own * step.unit)
        result.signals = replace(signals, rows=None)
    add_heads(step, found, head_weights)
    add_gradients(step.shared, combined, step.scale)
    return result


def by_features(step: Step, balancer: Balancer, signals: Signals) -> Result:
    """The Gramian of the gradients at the one shared representation; then one pass below it."""
    survey(step)
    if len(step.features) != 1:
        raise RecipeError(
            f"The mode 'features' needs the one tensor that all tasks read, got {len(step.features)}: gradients at "
            "representations of their own have no inner products. Give the shared tensor, or use the mode 'exact'."
        )
    if any(not used for used in step.used):
        raise RecipeError(
            f"The mode 'features' cannot be used: {'; '.join(step.notes) or 'a task does not read them'}."
        )
    found = head_passes(step)
    gramian = features_gramian(step, found) / step.unit**2
    if not gramian.isfinite().all():
        result = Result("features", torch.zeros(len(step.losses)), passes=1)
        _overflow(step, gramian, result)
        weights = head_weights = torch.ones(len(step.losses), dtype=torch.float64)
    else:
        signals = replace(signals, gramian=gramian)
        weights = solve(balancer, signals)
        head_weights = balancer.head_weights(signals, weights)
        result = Result("features", weights, gramian, signals, passes=1)
    add_heads(step, found, head_weights)
    shared_backward(step, found, weights)
    return result


def solve(balancer: Balancer, signals: Signals) -> Float[Tensor, " T"]:
    """Ask the balancer for float64 weights on the CPU; it answers only with finite ones."""
    weights: Tensor = balancer(signals)
    return weights.detach().to("cpu", torch.float64)


def _need_shared(step: Step, balancer: Balancer) -> None:
    if not step.shared:
        raise RecipeError(
            f"{type(balancer).__name__} weighs gradients on shared parameters, and none of them can be trained."
        )


def _overflow(step: Step, gramian: Float[Tensor, "T T"], result: Result) -> None:
    """A scaler expects overflows and skips the step; without one they are an error."""
    if step.unit != 1.0:
        result.overflow, result.gramian = True, None
        return
    bad = [name for name, norm in zip(step.names, gramian.diagonal().tolist(), strict=True) if norm - norm != 0]
    raise NonFiniteError(
        f"The gradient of task {', '.join(map(repr, bad))} is NaN or infinite, so nothing was changed."
    )
