"""An encoder in one file: numbers as waves of learned frequencies, then dense layers."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import nn

from polytask.models.encoders import Encoder
from polytask.models.inputs import InputShape
from polytask.models.sharing import Hard


class Periodic(nn.Module):
    """Each number as sines and cosines."""

    def __init__(self, n_inputs: int, n_waves: int):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(n_inputs, n_waves))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = (x.flatten(1).unsqueeze(-1) * self.frequencies).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class Waves(Encoder):
    """Numbers as waves, then dense layers; sources must have inputs of one shape.

    Args:
        inputs: Shape of each source's inputs.
        n_waves: Frequencies for each number.
        widths: Of the dense layers; each is a stage, after which a way of sharing may split.
    """

    def __init__(self, inputs: Mapping[str, InputShape], n_waves: int = 4, widths: Sequence[int] = (32, 32)):
        super().__init__(inputs)
        (shape,) = {field.shape for source in inputs.values() for field in source.fields.values()}
        n_inputs = prod(shape)
        sizes = [2 * n_waves * n_inputs, *widths]
        dense = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
        self.stages = nn.ModuleList([Periodic(n_inputs, n_waves), *dense])
        self.width = sizes[-1]


if __name__ == "__main__":
    rows = torch.randn(5, 3)
    encoder = Waves({"main": InputShape.of(rows)})
    for ratio in (0.0, 0.5, 1.0):  # no stage in common, half of them, all
        out = Hard(encoder, ["a", "b"], ratio=ratio)(rows)
        print(ratio, {task: tuple(x.shape) for task, x in out.items()})
