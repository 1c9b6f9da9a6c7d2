"""An encoder in one file: numbers as waves of learned frequencies, then dense layers."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from polytask.errors import InputError
from polytask.models.adapters import FlatAdapter, adapt
from polytask.models.encoders import Encoder
from polytask.models.inputs import Field, InputShape
from polytask.models.sharing import Hard
from polytask.testing import check_encoder


class Periodic(nn.Module):
    """Each number as sines and cosines."""

    def __init__(self, n_inputs: int, n_waves: int):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(n_inputs, n_waves))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        angles = (x.unsqueeze(-1) * self.frequencies).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class Waves(Encoder):
    """Numbers as waves, then dense layers; sources must have as many numbers a row.

    Args:
        inputs: Shape of each source's inputs.
        n_waves: Frequencies for each number.
        widths: Of the dense layers; each is a stage, after which a way of sharing may split.
    """

    def __init__(self, inputs: Mapping[str, InputShape], n_waves: int = 4, widths: Sequence[int] = (32, 32)):
        super().__init__(inputs)
        # A FlatAdapter puts the fields of a row side by side, and refuses codes of categories by an InputError.
        fields = adapt(inputs, FlatAdapter, share_equal=True)
        widths_of = {source: FlatAdapter(shape).n_values for source, shape in inputs.items()}
        if len(set(widths_of.values())) > 1:
            raise InputError(f"The encoder waves reads as many numbers a row from each source, got {widths_of}.")
        n_inputs = next(iter(widths_of.values()))
        sizes = [2 * n_waves * n_inputs, *widths]
        dense = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
        self.stages = nn.ModuleList([fields.followed_by(Periodic(n_inputs, n_waves)), *dense])
        self.width = sizes[-1]


if __name__ == "__main__":
    check_encoder(Waves)
    rows = torch.randn(5, 3)
    encoder = Waves({"main": InputShape.of(rows)})
    for ratio in (0.0, 0.5, 1.0):  # no stage in common, half of them, all
        out = Hard(encoder, ["a", "b"], ratio=ratio)(rows)
        print(ratio, {task: tuple(x.shape) for task, x in out.items()})
    try:
        Waves({"main": InputShape({"numeric": Field((3,)), "categorical": Field((2,), (4, 7))})})
    except InputError as error:
        print(error)
