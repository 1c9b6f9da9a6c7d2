"""Backward passes: each task's own part once, the shared part once a task or once in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch

from polytask.balancing.graph import reach
from polytask.balancing.peers import summed, summed_list
from polytask.balancing.rows import row_products
from polytask.balancing.step import Step, add_gradients, given_heads
from polytask.balancing.task_rows import Rows
from polytask.shapes import Float, Tensor

__all__ = [
    "Cotangents",
    "add_heads",
    "features_gramian",
    "head_passes",
    "joined_backward",
    "plain_backward",
    "product_pass",
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


def _unit(step: Step, i: int) -> Tensor:
    return torch.full_like(step.losses[i], step.unit_of(i))


def head_passes(step: Step, own_too: bool = False) -> Cotangents:
    """Run every task's own part backwards once, down to the features.

    A task that goes around the features gets its own gradients together with its row, or here if ``own_too``.
    """
    found = Cotangents([], [])
    for i, (loss, heads, used) in enumerate(zip(step.losses, step.heads, step.used, strict=True)):
        if not used and not (own_too and heads):
            found.at_features.append([])
            found.heads.append([None] * len(heads))
            continue
        inputs = [*(step.features[j] for j in used), *heads]
        keep = step.heads_meet or not used
        grads = torch.autograd.grad(loss, inputs, _unit(step, i), retain_graph=keep, allow_unused=True)
        at = [torch.zeros_like(z) if g is None else g for z, g in zip(inputs, grads[: len(used)], strict=False)]
        found.at_features.append(at)
        found.heads.append(list(grads[len(used) :]))
    return found


def row_passes(step: Step, found: Cotangents, rows: Rows, keep_graph: bool = False) -> None:
    """Go through the shared part once a task and leave its gradient with ``rows``.

    With ``keep_graph`` another pass follows, and the tasks' own gradients have been taken before.
    """
    n_shared = len(rows.inputs)
    for i, (loss, heads, used) in enumerate(zip(step.losses, step.heads, step.used, strict=True)):
        if loss.grad_fn is None:  # labelled in other processes only
            rows.take(i, [None] * n_shared)
            continue
        keep = keep_graph or (not step.own_graphs and i + 1 < len(step.losses))
        if used:
            outputs, cotangents, inputs = [step.features[j] for j in used], found.at_features[i], rows.inputs
        else:
            outputs, cotangents, inputs = [loss], [_unit(step, i)], [*rows.inputs, *([] if keep_graph else heads)]
        grads = torch.autograd.grad(
            outputs, cast(list[Tensor], inputs), cotangents, retain_graph=keep, allow_unused=True
        )
        rows.take(i, grads[:n_shared])
        if not used and not keep_graph:
            found.heads[i] = list(grads[n_shared:])


def add_heads(step: Step, found: Cotangents, weights: Float[Tensor, " T"]) -> None:
    """Add each task's weight times the gradient of its own loss to its own parameters."""
    each = zip(step.heads, found.heads, weights.tolist(), strict=True)
    if step.peers is None:
        for heads, grads, weight in each:
            add_gradients(heads, grads, weight * step.scale)
        return
    sums: dict[Tensor, Tensor | None] = {}  # one message for all tasks; a constraint owns what its task owns
    for heads, grads, weight in each:
        for parameter, grad in zip(heads, grads, strict=True):
            known = sums.get(parameter)
            new = None if grad is None else grad * weight
            sums[parameter] = known if new is None else new if known is None else known + new
    add_gradients([*sums], summed_list([*sums.values()], [*sums], step.peers), step.scale)


def plain_backward(step: Step, weights: Float[Tensor, " T"]) -> None:
    """One backward of the weighted sum, into every leaf that the losses reach; costs what plain summation costs."""
    factors = (weights * (step.unit * step.scale)).tolist()
    grads = [torch.full_like(loss, factor) for loss, factor in zip(step.losses, factors, strict=True)]
    torch.autograd.backward(step.losses, grads)


def joined_backward(step: Step, weights: Float[Tensor, " T"]) -> None:
    """The same in data parallel: one backward here, and one sum over the processes for everything."""
    parameters = list(dict.fromkeys([*step.shared, *(p for own in given_heads(step) for p in own)]))
    here = [i for i, loss in enumerate(step.losses) if loss.grad_fn is not None]
    grads: list[Tensor | None] = [None] * len(parameters)
    if here and parameters:
        cotangents = [_unit(step, i) * weights[i].item() for i in here]
        losses = [step.losses[i] for i in here]
        grads = list(torch.autograd.grad(losses, parameters, cotangents, allow_unused=True))
    add_gradients(parameters, summed_list(grads, parameters, step.peers), step.scale)


def mixture(step: Step, found: Cotangents, weights: Float[Tensor, " T"]) -> tuple[list[Tensor], list[Tensor]]:
    """Where one pass through the shared part starts, and the weighted sum of the cotangents there."""
    outputs: list[Tensor] = []
    cotangents: list[Tensor] = []
    sums: dict[int, Tensor] = {}
    for i, (used, at, weight) in enumerate(zip(step.used, found.at_features, weights.tolist(), strict=True)):
        if not used:
            outputs.append(step.losses[i])
            cotangents.append(_unit(step, i) * weight)
        for j, cotangent in zip(used, at, strict=True):
            sums[j] = torch.add(sums[j], cotangent, alpha=weight) if j in sums else cotangent * weight
    return [*outputs, *(step.features[j] for j in sums)], [*cotangents, *sums.values()]


def shared_backward(step: Step, found: Cotangents, weights: Float[Tensor, " T"]) -> None:
    """Go through the shared part once, with the weighted sum of the cotangents."""
    outputs, cotangents = mixture(step, found, weights)
    grads = torch.autograd.grad(outputs, step.shared, cotangents, allow_unused=True)
    add_gradients(step.shared, summed_list(grads, step.shared, step.peers), step.scale)


def weighted_backward(step: Step, weights: Float[Tensor, " T"], head_weights: Float[Tensor, " T"]) -> None:
    """One pass through the shared part with ``weights``, one through each task's own part with ``head_weights``."""
    found = head_passes(step, own_too=True)
    add_heads(step, found, head_weights)
    if step.shared:
        shared_backward(step, found, weights)


def product_pass(
    step: Step, found: Cotangents, weights: Float[Tensor, " T"]
) -> tuple[list[Tensor | None], Float[Tensor, " T"]]:
    """The combined gradient ``J.T w`` and the product ``J J.T w`` of the Gramian with the weights.

    The gradient is linear in the cotangents it starts from, so the backward of the backward, taken towards those
    cotangents alone, is a product with ``J``: no task has a pass of its own.
    """
    outputs, cotangents = mixture(step, found, weights)
    _refuse_once_differentiable(outputs)
    starts = [cotangent.detach().requires_grad_() for cotangent in cotangents]
    grads = torch.autograd.grad(outputs, step.shared, starts, create_graph=True, allow_unused=True)
    total = summed_list([None if g is None else g.detach() for g in grads], step.shared, step.peers)
    pairs = [(g, v) for g, v in zip(grads, total, strict=True) if g is not None and g.requires_grad]
    back: list[Tensor | None] = [None] * len(starts)
    if pairs:
        back = list(torch.autograd.grad([g for g, _ in pairs], starts, [v for _, v in pairs], allow_unused=True))
    by_output = {id(output): r for output, r in zip(outputs, back, strict=True) if r is not None}
    product = torch.zeros(len(step.losses), dtype=torch.float64)
    for i, (used, at) in enumerate(zip(step.used, found.at_features, strict=True)):
        ends = [(by_output.get(id(step.features[j])), c) for j, c in zip(used, at, strict=True)]
        if not used:
            ends = [(by_output.get(id(step.losses[i])), _unit(step, i))]
        product[i] = sum(float((r * c).sum(dtype=torch.float64)) for r, c in ends if r is not None)
    return total, summed(product, step.peers)


def _refuse_once_differentiable(outputs: Sequence[Tensor]) -> None:
    """Such a function cuts the graph of its backward without a word, so the product would be wrong."""
    for node in reach(outputs).nodes:
        function = getattr(node, "_forward_cls", None)
        if function is not None and hasattr(function.backward, "__wrapped__"):
            raise RuntimeError(f"the derivative of {function.__name__}'s backward is not implemented")


def features_gramian(step: Step, found: Cotangents) -> Float[Tensor, "T T"]:
    """Inner products of the cotangents at the one shared representation."""
    return summed(row_products(torch.stack([at[0].flatten() for at in found.at_features])), step.peers)
