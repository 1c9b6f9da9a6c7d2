"""Experts and gates: what the mixtures of experts are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from polytask.errors import InputError, RecipeError
from polytask.models.adapters import FlatAdapter, adapt
from polytask.models.dropout import Dropout
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape
from polytask.models.sharing._copies import Copies
from polytask.models.stages import BySource, fresh_copy, shapes_after
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["ExpertPlan", "Gate", "GateReader", "mix", "mix_for_each"]

_RAW_WIDTH = 64
"""Width to which gates project the raw inputs when sources differ in width."""


class ExpertPlan:
    """What one expert is: the encoder's stages above the split, then dense layers with ReLU.

    Args:
        who: The sharing, for messages.
        encoder: The encoder.
        above: Its stages above the split.
        widths: Widths of the dense layers; may be empty if there are stages above the split.
        dropout: Probability of dropping a unit after each dense layer.
        width_before: Width of what the experts read; the encoder's if not given. Only matters without stages above.

    Raises:
        RecipeError: If an expert would have no layer at all.
    """

    def __init__(
        self,
        who: str,
        encoder: Encoder,
        above: Sequence[nn.Module],
        widths: Sequence[int],
        dropout: float = 0.0,
        width_before: int | None = None,
    ):
        if not above and not widths:
            raise RecipeError(
                f"{who} has experts without a layer: at ratio 1 give expert_widths, such as (128,), or lower the ratio."
            )
        self.stages = list(above)
        self.width = encoder.width if width_before is None else width_before
        for width in widths:
            layers: list[nn.Module] = [nn.Linear(self.width, width), nn.ReLU()]
            self.stages.append(nn.Sequential(*layers, *([Dropout(dropout)] if dropout else [])))
            self.width = width
        self._is_first = True

    def make(self, n: int) -> Copies:
        """``n`` new experts; the very first one made has the encoder's own values."""
        stages = self.stages if self._is_first else [fresh_copy(stage) for stage in self.stages]
        if self._is_first:
            self.stages = [fresh_copy(stage) for stage in stages]
            self._is_first = False
        return Copies(stages, n)


class GateReader(nn.Module):
    """What gates look at: the trunk's output as a vector, or the raw numbers when there is no trunk.

    Maps of positions are averaged over the positions.

    Args:
        who: The sharing, for messages.
        encoder: The encoder.
        trunk: Its stages below the split.

    Shape:
        trunk's output ``[B, ...]`` -> ``[B, width]``

    Raises:
        RecipeError: If there is no trunk and the inputs are no vectors of numbers.
    """

    def __init__(self, who: str, encoder: Encoder, trunk: nn.ModuleList):
        super().__init__()
        self.raw: BySource | None = None
        self.axes: tuple[int, ...] = ()
        if len(trunk):
            source, shape = next(iter(encoder.inputs.items()))
            extents = shapes_after(trunk, shape, source)[-1]
            self.axes = (2, 3) if len(extents) == 3 else tuple(range(1, len(extents)))
            self.width = extents[0] if len(extents) == 3 else extents[-1]
            return
        if encoder.n_members > 1:
            raise RecipeError(
                f"With nothing in the trunk the gates of {who} read the raw inputs, which an ensemble's members do not "
                "have one by one. Raise the ratio, or take an encoder of one member."
            )
        self.raw, self.width = _raw_reader(who, encoder.inputs)

    def forward(self, inputs: Inputs, below: Inputs, source: str | None = None) -> Float[Tensor, "B G"]:
        """Read the trunk's output ``below``, or ``inputs`` if there is no trunk."""
        if self.raw is not None:
            return self.raw(inputs, source)  # type: ignore[no-any-return]
        read: Tensor = below.mean(self.axes) if self.axes else below  # type: ignore[union-attr, assignment]
        return read


def _raw_reader(who: str, inputs: Mapping[str, InputShape]) -> tuple[BySource, int]:
    for shape in inputs.values():
        if any(field.cardinalities or len(field.shape) != 1 for field in shape.fields.values()):
            raise RecipeError(
                f"The gates of {who} can read vectors of numbers, but with nothing in the trunk they would read "
                f"{ {name: field.shape for name, field in shape.fields.items()} }. Raise the ratio."
            )
    try:
        widths = {FlatAdapter(shape).n_values for shape in inputs.values()}
    except InputError as error:
        raise RecipeError(str(error)) from error
    same = len(widths) == 1
    reader = adapt(inputs, lambda shape: FlatAdapter(shape, None if same else _RAW_WIDTH), share_equal=True)
    return reader, widths.pop() if same else _RAW_WIDTH


class Gate(nn.Module):
    """One softmax gate: ``softmax(W x + b)``.

    Args:
        width: Width of what the gate reads.
        n_experts: Number of experts among which it chooses.

    Shape:
        ``[B, width]`` -> ``[B, E]``
    """

    def __init__(self, width: int, n_experts: int):
        super().__init__()
        self.linear = nn.Linear(width, n_experts)

    def forward(self, read: Float[Tensor, "B G"]) -> Float[Tensor, "B E"]:
        """Weights that sum to one."""
        logits: Tensor = self.linear(read)
        return logits.softmax(1)


def mix_for_each(
    weights: Mapping[str, Float[Tensor, "B E"]], experts: Float[Tensor, "B E D"]
) -> dict[str, Float[Tensor, "B D"]]:
    """Each task's weighted sum of the same experts, in one product that reads them once."""
    mixed = torch.bmm(_of_each_row(torch.stack(tuple(weights.values()), 1), experts), experts)
    return dict(zip(weights, mixed.unbind(1), strict=True))


def mix(weights: Float[Tensor, "B E"], experts: Float[Tensor, "B E D"]) -> Float[Tensor, "B D"]:
    """The weighted sum of experts, row by row."""
    return torch.bmm(_of_each_row(weights.unsqueeze(1), experts), experts).squeeze(1)


def _of_each_row(weights: Float[Tensor, "B T E"], experts: Float[Tensor, "BL E D"]) -> Float[Tensor, "BL T E"]:
    """The weights of a map for each of its pixels, where gates read maps and experts end in pixels."""
    if experts.shape[0] == weights.shape[0]:
        return weights
    return weights.repeat_interleave(experts.shape[0] // weights.shape[0], 0)
