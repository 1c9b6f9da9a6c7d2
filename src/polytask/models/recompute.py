"""Activations that are computed again on the way back, in place of being kept: memory for time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from polytask.errors import RecipeError
from polytask.models.sharing.sharing import Features
from polytask.shapes import Inputs, Tensor

__all__ = ["recomputed"]


def recomputed(run: Callable[[Inputs], Features], inputs: Inputs, n_pieces: int, module: nn.Module) -> Features:
    """What ``run`` gives for the inputs, in pieces of their rows none of whose inner activations is kept.

    Each backward pass runs a piece's forward pass again, with the random numbers of the first time, and lets go of it
    before the next: only one piece's activations are there at a time.

    Args:
        run: From the inputs to one tensor, or one for each task; rows stay in order along the first dimension.
        inputs: A tensor, or one per field.
        n_pieces: How many pieces of (nearly) equal numbers of rows.
        module: What ``run`` runs; its buffers (running statistics, counts of steps) change as in one pass.

    Raises:
        RecipeError: If the results of the pieces cannot be joined, because their shapes differ beyond the rows.

    Example:
        >>> layer, x = nn.Linear(3, 2), torch.randn(5, 3)
        >>> pieces = recomputed(layer, x, 2, layer)
        >>> torch.allclose(pieces, layer(x))
        True
    """
    held = _Held(module)
    found: list[Features] = []
    for piece in _split(inputs, n_pieces):
        if found:
            held.rewind()
        found.append(
            cast(Features, checkpoint(run, piece, use_reentrant=False, context_fn=lambda: (nullcontext(), held)))
        )
    if len(found) == 1:
        return found[0]
    try:
        if isinstance(found[0], Tensor):
            return torch.cat([part for part in found if isinstance(part, Tensor)])
        joined: dict[int, Tensor] = {}  # tasks with one representation go on having one
        for name, first in found[0].items():
            if id(first) not in joined:
                joined[id(first)] = torch.cat([part[name] for part in found if isinstance(part, Mapping)])
        return {name: joined[id(first)] for name, first in found[0].items()}
    except RuntimeError as error:
        raise RecipeError(
            f"The pieces of a batch have representations that cannot be joined ({str(error).splitlines()[0]}): take "
            "training.accumulate out, or another encoder."
        ) from error


def _split(inputs: Inputs, n_pieces: int) -> list[Inputs]:
    if isinstance(inputs, Tensor):
        return list(inputs.tensor_split(min(n_pieces, max(len(inputs) // 2, 1))))
    n_rows = len(next(iter(inputs.values())))
    n_pieces = min(n_pieces, max(n_rows // 2, 1))  # batch normalisation cannot learn from a single row
    fields = {name: values.tensor_split(n_pieces) for name, values in inputs.items()}
    return [{name: parts[i] for name, parts in fields.items()} for i in range(n_pieces)]


class _Held:
    """The module's buffers as they were before its forward pass; can be entered again and again.

    Inside, what a pass counts or reads is as it was the first time; at the end everything is as it was outside.
    """

    def __init__(self, module: nn.Module):
        norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
        statistics = {id(buffer) for norm in norms for buffer in norm.buffers()}
        self._all = list(module.buffers())
        # Running statistics take every piece in, and what a training pass gives does not depend on them.
        self._counted = [(buffer, buffer.clone()) for buffer in self._all if id(buffer) not in statistics]
        self._now: list[Tensor] = []

    def rewind(self) -> None:
        """Make what passes count what it was, so that all pieces are one step."""
        for buffer, before in self._counted:
            buffer.copy_(before)

    def __enter__(self) -> None:
        self._now = [buffer.clone() for buffer in self._all]
        self.rewind()

    def __exit__(self, *error: object) -> None:
        for buffer, now in zip(self._all, self._now, strict=True):
            buffer.copy_(now)
        self._now = []
