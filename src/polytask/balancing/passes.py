"""Backward passes: each task's own part once, the shared part once a task or once in all."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from polytask.balancing.rows import row_products
from polytask.balancing.step import Step, add_gradients
from polytask.balancing.task_rows import Rows
from polytask.shapes import Float, Tensor

__all__ = [
    "Cotangents",
    "add_heads",
    "features_gramian",
    "head_passes",
    "plain_backward",
    "row_passes",
    "shared_backward",
    "weighted_backward",
]


@dataclass
class Cotangents:
    """Gradients of the losses at the features, and of each task's own parameters; all times ``step.unit``.

    Args:
        at_features: For each present task the gradient at each feature that it uses; empty where the gradient is
            taken from the loss.
        heads: For each present task the gradients of its own parameters.
    """

    at_features: list[list[Tensor]]
    heads: list[list[Tensor | None]]


def _unit(step: Step, loss: Tensor) -> Tensor:
    return torch.full_like(loss, step.unit)


def head_passes(step: Step) -> Cotangents:
    """Run every task's own part backwards once, down to the features; tasks without features wait for their row."""
    found = Cotangents([], [])
    for loss, heads, used in zip(step.losses, step.heads, step.used, strict=True):
        if not used:
            found.at_features.append([])
            found.heads.append([None] * len(heads))
            continue
        inputs = [*(step.features[i] for i in used), *heads]
        grads = torch.autograd.grad(loss, inputs, _unit(step, loss), retain_graph=step.heads_meet, allow_unused=True)
        at = [torch.zeros_like(z) if g is None else g for z, g in zip(inputs, grads[: len(used)], strict=False)]
        found.at_features.append(at)
        found.heads.append(list(grads[len(used) :]))
    return found


def row_passes(step: Step, found: Cotangents, rows: Rows) -> None:
    """Go through the shared part once a task and leave its gradient with ``rows``."""
    n_shared = len(rows.inputs)
    for i, (loss, heads, used) in enumerate(zip(step.losses, step.heads, step.used, strict=True)):
        keep = not step.own_graphs and i + 1 < len(step.losses)
        if used:
            outputs, cotangents, inputs = [step.features[j] for j in used], found.at_features[i], rows.inputs
        else:
            outputs, cotangents, inputs = [loss], [_unit(step, loss)], [*rows.inputs, *heads]
        grads = torch.autograd.grad(outputs, inputs, cotangents, retain_graph=keep, allow_unused=True)
        rows.take(i, grads[:n_shared])
        if not used:
            found.heads[i] = list(grads[n_shared:])


def add_heads(step: Step, found: Cotangents, weights: Float[Tensor, " T"]) -> None:
    """Add each task's weight times the gradient of its own loss to its own parameters."""
    for heads, grads, weight in zip(step.heads, found.heads, weights.tolist(), strict=True):
        add_gradients(heads, grads, weight * step.scale)


def plain_backward(step: Step, weights: Float[Tensor, " T"]) -> None:
    """One backward of the weighted sum, into every leaf that the losses reach; costs what plain summation costs."""
    factors = (weights * (step.unit * step.scale)).tolist()
    grads = [torch.full_like(loss, factor) for loss, factor in zip(step.losses, factors, strict=True)]
    torch.autograd.backward(step.losses, grads)


def shared_backward(step: Step, found: Cotangents, weights: Float[Tensor, " T"]) -> None:
    """Go through the shared part once, with the weighted sum of the cotangents."""
    outputs: list[Tensor] = []
    cotangents: list[Tensor] = []
    sums: dict[int, Tensor] = {}
    for loss, used, at, weight in zip(step.losses, step.used, found.at_features, weights.tolist(), strict=True):
        if not used:
            outputs.append(loss)
            cotangents.append(_unit(step, loss) * weight)
        for j, cotangent in zip(used, at, strict=True):
            sums[j] = torch.add(sums[j], cotangent, alpha=weight) if j in sums else cotangent * weight
    outputs += [step.features[j] for j in sums]
    cotangents += list(sums.values())
    grads = torch.autograd.grad(outputs, step.shared, cotangents, allow_unused=True)
    add_gradients(step.shared, grads, step.scale)


def weighted_backward(step: Step, weights: Float[Tensor, " T"], head_weights: Float[Tensor, " T"]) -> None:
    """One pass through the shared part with ``weights``, one through each task's own part with ``head_weights``."""
    if torch.equal(weights, head_weights):
        plain_backward(step, weights)
        return
    found = head_passes(step)
    for i, (loss, heads, used) in enumerate(zip(step.losses, step.heads, step.used, strict=True)):
        if not used and heads:
            grads = torch.autograd.grad(loss, heads, _unit(step, loss), retain_graph=True, allow_unused=True)
            found.heads[i] = list(grads)
    add_heads(step, found, head_weights)
    shared_backward(step, found, weights)


def features_gramian(step: Step, found: Cotangents) -> Float[Tensor, "T T"]:
    """Inner products of the cotangents at the one shared representation."""
    return row_products(torch.stack([at[0].flatten() for at in found.at_features]))
