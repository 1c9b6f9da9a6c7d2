"""The ways from losses to weights and a gradient; each mode of the engine takes one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import torch

from polytask.balancing.balancer import Balancer, Signals
from polytask.balancing.ghost import Ghost
from polytask.balancing.passes import (
    add_heads,
    features_gramian,
    head_passes,
    joined_backward,
    plain_backward,
    product_pass,
    row_passes,
    shared_backward,
    weighted_backward,
)
from polytask.balancing.peers import summed, summed_list
from polytask.balancing.sketch import sketched_gramian
from polytask.balancing.step import Step, add_gradients, survey
from polytask.balancing.task_rows import Rows
from polytask.errors import NonFiniteError, RecipeError
from polytask.shapes import Float, Tensor

__all__ = ["Extras", "Result", "by_features", "by_known_weights", "by_product", "by_rows"]


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


@dataclass
class Extras:
    """What only some methods ask for.

    Args:
        ghost: Watches layers whose weight gradients can be passed over.
        second: Losses of a second, independent batch, one a task.
        validation: A validation loss.
        bf16: Whether the passes for the Gramian run in bfloat16.
        sketch: Numbers a task in the mode ``sketch``; else ``None``.
    """

    ghost: Ghost | None = None
    second: Sequence[Tensor | None] | Mapping[str, Tensor | None] | None = None
    validation: Tensor | None = None
    bf16: bool = False
    sketch: int | None = None


def by_known_weights(step: Step, balancer: Balancer, signals: Signals) -> Result:
    """The weights follow from the losses alone: one backward."""
    weights = solve(balancer, signals, step.unit * step.scale)
    head_weights = balancer.head_weights(signals, weights).detach().to("cpu", torch.float64)
    if torch.equal(weights, head_weights):
        (plain_backward if step.peers is None else joined_backward)(step, weights)
    else:
        survey(step)
        weighted_backward(step, weights, head_weights)
    return Result("one_backward", weights, None, signals, passes=1)


def by_rows(step: Step, balancer: Balancer, signals: Signals, extras: Extras) -> Result:
    """One gradient a task; the Gramian, the weights and the combined gradient from them."""
    survey(step)
    _need_shared(step, balancer)
    needs = balancer.needs_in(signals)
    found = head_passes(step, own_too=extras.bf16)
    rows = Rows(step, balancer, _allowed_ghost(step, balancer, needs, extras))
    with _precision(step, extras.bf16):
        row_passes(step, found, rows, keep_graph=extras.bf16)
    gramian = _joined_gramian(step, rows, extras, signals.step) / step.unit**2
    route = "sketch" if extras.sketch else "ghost" if rows.layers else "rows"
    result = Result(route, torch.zeros(len(step.losses)), gramian, passes=len(step.losses), layers=rows.decided)
    if not gramian.isfinite().all():
        head_weights = _overflow(step, gramian.diagonal(), result)
        combined = rows.combined(head_weights)
    else:
        flat = (rows.buffer.flat() if step.unit == 1 else rows.buffer.flat() / step.unit) if "rows" in needs else None
        signals = replace(signals, gramian=gramian, rows=flat, **_further(step, balancer, rows, gramian, extras))
        weights = result.weights = solve(balancer, signals, step.unit * step.scale)
        head_weights = balancer.head_weights(signals, weights).detach().to("cpu", torch.float64)
        own = balancer.combine(signals, weights) if flat is not None else None
        result.signals = replace(signals, rows=None)
        if extras.bf16 and own is None:
            # The weights come from a Gramian in bfloat16, the gradient is in the precision of the forward pass.
            result.passes += 1
            add_heads(step, found, head_weights)
            shared_backward(step, found, weights)
            return result
        combined = rows.combined(weights) if own is None else rows.split(own * step.unit)
    if extras.sketch:
        combined = summed_list(combined, step.shared, step.peers)
    add_heads(step, found, head_weights)
    add_gradients(step.shared, combined, step.scale)
    return result


def _joined_gramian(step: Step, rows: Rows, extras: Extras, number: int) -> Float[Tensor, "T T"]:
    """The Gramian of the joined batch: from summed rows, or from summed sketches of them, the rows staying as here."""
    if extras.sketch:
        return sketched_gramian(rows.buffer.blocks, extras.sketch, number, step.peers)
    if step.peers is not None:
        rows.sum_over(step.peers)
    return rows.gramian()


def _precision(step: Step, bf16: bool) -> AbstractContextManager[Any]:
    return torch.autocast(step.shared[0].device.type, torch.bfloat16) if bf16 else nullcontext()


def _allowed_ghost(step: Step, balancer: Balancer, needs: frozenset[str], extras: Extras) -> Ghost | None:
    if extras.ghost is None:
        return None
    if needs & {"rows", "cross_gramian", "validation"}:
        step.notes.append(f"{type(balancer).__name__} needs whole gradients, so the ghost was not used")
    elif step.peers is not None:
        step.notes.append("gradients are summed over the processes, so the ghost was not used")
    elif extras.sketch:
        step.notes.append("whole gradients are sketched, so the ghost was not used")
    elif extras.bf16:
        step.notes.append("the passes run in bfloat16, so the ghost was not used")
    else:
        return extras.ghost
    return None


def _further(
    step: Step, balancer: Balancer, rows: Rows, gramian: Float[Tensor, "T T"], extras: Extras
) -> dict[str, Any]:
    """Products with gradients of a second batch or of a validation loss, for the methods that need them.

    Raises:
        RecipeError: If what the method needs was not given.
    """
    name, needs = type(balancer).__name__, balancer.needs
    found: dict[str, Any] = {}
    if "cross_gramian" in needs:
        if extras.second is None:
            raise RecipeError(f"{name} needs second=: the losses of a second, independent batch.")
        losses = (
            dict(zip(step.tasks, extras.second, strict=True))
            if not isinstance(extras.second, Mapping)
            else extras.second
        )
        there = torch.tensor([float(losses.get(task) is not None) for task in step.names])
        there = summed(there, step.peers)
        cross = gramian.clone()
        for i, task in enumerate(step.names):
            if there[i] == 0.0:
                step.notes.append(f"{task}: not in the second batch; its column is that of the first")
                continue
            cross[:, i] = _with_gradient(step, rows, losses.get(task)) / step.unit
        found["cross_gramian"] = cross
    if "validation" in needs:
        if summed(torch.tensor([float(extras.validation is not None)]), step.peers) == 0.0:
            raise RecipeError(f"{name} needs validation=: a loss on validation data.")
        found["validation"] = _with_gradient(step, rows, extras.validation) / step.unit
    return found


def _with_gradient(step: Step, rows: Rows, loss: Tensor | None) -> Float[Tensor, " T"]:
    """Products of the rows with the gradient of one more loss; in data parallel with that of the processes' mean."""
    gradients: list[Tensor | None] = [None] * len(step.shared)
    if loss is not None:
        found = torch.autograd.grad(loss, step.shared, retain_graph=True, allow_unused=True)
        n_processes = 1 if step.peers is None else step.peers.size
        gradients = [None if g is None else g / n_processes for g in found]
    return rows.products_with(summed_list(gradients, step.shared, step.peers))


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
    result = Result("features", torch.zeros(len(step.losses)), gramian, passes=1)
    if not gramian.isfinite().all():
        weights = head_weights = _overflow(step, gramian.diagonal(), result)
    else:
        signals = result.signals = replace(signals, gramian=gramian)
        weights = result.weights = solve(balancer, signals, step.unit * step.scale)
        head_weights = balancer.head_weights(signals, weights).detach().to("cpu", torch.float64)
    add_heads(step, found, head_weights)
    shared_backward(step, found, weights)
    return result


def by_product(step: Step, balancer: Balancer, signals: Signals) -> Result:
    """The gradient with the weights of the step before; the next weights from one product with the Gramian.

    Raises:
        RecipeError: If an operation of the shared part cannot be differentiated twice.
    """
    survey(step)
    _need_shared(step, balancer)
    kept = balancer.keep()
    known = kept.known[signals.index]
    start = kept.at(signals.index)
    first = 1.0 / len(known) if balancer.sums_to_one else 1.0
    usual = start[known].mean() if known.any() else torch.tensor(first, dtype=torch.float64)
    weights = torch.where(known, start, usual)
    found = head_passes(step, own_too=True)
    try:
        combined, product = product_pass(step, found, weights)
    except RuntimeError as error:
        if "derivative" not in str(error):
            raise
        raise RecipeError(
            f"The mode 'matrix_free' differentiates the backward pass, which an operation here cannot: {error}. "
            "Use the mode 'exact', or another form of the operation, e.g. the math kernel of attention."
        ) from error
    product = product / step.unit**2
    result = Result("matrix_free", weights, None, signals, passes=2)
    if product.isfinite().all():
        after = balancer.iterate(signals, weights, product).detach().to("cpu", torch.float64)
        if not after.isfinite().all():
            balancer.note_fallback("the matrix-free step came out not finite: weights unchanged")
            after = weights
        kept.store(signals.index, after)
    else:
        # One bad gradient spoils every product; whose it is shows above the shared part, if it arose there.
        own = torch.tensor([sum(float(c.abs().sum()) for c in at) for at in found.at_features])
        _overflow(step, product if own.isfinite().all() else own, result)
    add_heads(step, found, balancer.head_weights(signals, weights).detach().to("cpu", torch.float64))
    add_gradients(step.shared, combined, step.scale)
    return result


def solve(balancer: Balancer, signals: Signals, factor: float) -> Float[Tensor, " T"]:
    """Ask the balancer for float64 weights on the CPU; it answers only with finite ones.

    The gradients of learned weights take the factor that everything in ``.grad`` takes.
    """
    learned = list(balancer.parameters()) if factor != 1.0 else []
    before = [parameter.grad for parameter in learned]
    for parameter in learned:
        parameter.grad = None
    weights: Tensor = balancer(signals)
    for parameter, old in zip(learned, before, strict=True):
        new = parameter.grad
        parameter.grad = old if new is None else new * factor if old is None else old + new * factor
    return weights.detach().to("cpu", torch.float64)


def _need_shared(step: Step, balancer: Balancer) -> None:
    if not step.shared:
        raise RecipeError(
            f"{type(balancer).__name__} weighs gradients on shared parameters, and none of them can be trained."
        )


def _overflow(step: Step, norms: Float[Tensor, " T"], result: Result) -> Float[Tensor, " T"]:
    """A scaler expects overflows and skips the step, whatever the gradient then is; without one they are an error."""
    if step.unit != 1.0:
        result.overflow, result.gramian = True, None
        return torch.ones(len(norms), dtype=torch.float64)
    bad = [name for name, norm in zip(step.names, norms.tolist(), strict=True) if not isfinite(norm)]
    raise NonFiniteError(
        f"The gradient of task {', '.join(map(repr, bad))} is NaN or infinite though its loss is not, so nothing was "
        "changed. Look for a root, a logarithm or a division at zero on the way to the loss."
    )
