"""A plain multilayer perceptron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import nn

from polytask.errors import RecipeError
from polytask.models.adapters import FlatAdapter, adapt
from polytask.models.dropout import Dropout
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape

__all__ = ["MLP"]


class MLP(Encoder):
    """Dense layers with ReLU; fields are flattened and concatenated first.

    Sources of different widths are projected to one width by an adapter of their own.

    Args:
        inputs: Shape of each source's inputs.
        widths: Width of each hidden layer; each is a stage.
        dropout: Probability of dropping a unit after each layer.

    Shape:
        fields ``[B, ...]`` -> ``[B, widths[-1]]``

    Raises:
        RecipeError: If there is no layer.
        InputError: If a field holds integer codes.

    Example:
        >>> import torch
        >>> encoder = MLP({"main": InputShape.of(torch.zeros(1, 4))}, widths=(16, 8))
        >>> encoder(torch.zeros(3, 4)).shape, len(encoder.stages)
        (torch.Size([3, 8]), 2)

    Note:
        A plain network, without embeddings, normalisation or residual connections: for arrays of numbers, and as a
        small encoder in tests and comparisons. For tables ``tabm``, the default, is usually better. Parameters and
        arithmetic grow with the products of neighbouring widths.
    """

    exports: ClassVar[bool] = True

    def __init__(self, inputs: Mapping[str, InputShape], widths: Sequence[int] = (256, 256, 256), dropout: float = 0.0):
        super().__init__(inputs)
        if not widths:
            raise RecipeError("The encoder mlp needs the width of one layer or more, such as [256], got none.")
        flat = {source: FlatAdapter(shape).n_values for source, shape in inputs.items()}
        # One width: concatenating is enough. Several: each source is projected to the first layer's width.
        same = len(set(flat.values())) == 1
        adapters = adapt(inputs, lambda shape: FlatAdapter(shape, None if same else widths[0]), share_equal=True)
        before = next(iter(flat.values())) if same else widths[0]
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(_layer(before, width, dropout))
            before = width
        self.stages = nn.ModuleList([adapters.followed_by(layers[0]), *layers[1:]])
        self.width = before


def _layer(before: int, width: int, dropout: float) -> nn.Module:
    parts: list[nn.Module] = [nn.Linear(before, width), nn.ReLU()]
    if dropout:
        parts.append(Dropout(dropout))
    return nn.Sequential(*parts)
