"""How much memory a member of a stack takes."""

from __future__ import annotations

import torch

from polytask.data.batch import ArraySource
from polytask.models.dropout import masks_from
from polytask.shapes import Tensor
from polytask.training.stacked.begun import Begun

__all__ = ["bytes_of"]

_COPIES = 6
"""Of each parameter: itself, gradient, two moments, the best epoch's, and one while members leave."""
_PASSES = 3
"""Beside what the forward pass keeps: what it lets go, and gradients in the backward pass."""


def bytes_of(begun: Begun) -> int:
    """Bytes that one more member takes, by what one forward pass of its network keeps for the backward pass."""
    training = begun.training
    ((name, source),) = training.feed.sources.items()
    assert isinstance(source, ArraySource)
    model = training.model
    known = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows = torch.arange(min(training.settings.batch_size, len(source)))
    held = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), masks_from(_ones):
        # The outputs are held, so that no memory is given back and counted twice.
        held.append(model.train()(source.batch(rows).inputs, None, name))
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return _COPIES * parameters + _PASSES * sum(kept.values())


def _ones(x: Tensor, p: float) -> Tensor:
    return torch.ones_like(x)
