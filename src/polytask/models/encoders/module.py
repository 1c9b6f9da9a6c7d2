"""The user's own network as an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from polytask.errors import InputError, RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape

__all__ = ["Module"]


class Module(Encoder):
    """Any ``nn.Module`` of the user's, from inputs ``[B, ...]`` to a representation ``[B, D]``.

    Args:
        inputs: Shape of each source's inputs; all sources must have the same.
        module: The network, or a list of networks, one for each stage at which sharing may split. The children
            of an ``nn.Sequential`` are taken as its stages.

    Raises:
        RecipeError: If no module was given, or it does not end in ``[B, D]``.
        InputError: If the sources have different shapes.

    Example:
        >>> shape = InputShape.of(torch.zeros(1, 4))
        >>> encoder = Module({"main": shape}, module=nn.Sequential(nn.Linear(4, 8), nn.Tanh()))
        >>> encoder.width, len(encoder.stages)
        (8, 2)

    Note:
        A bundle stores the parameters but no code: loading it needs the same module again. Whether it can be exported
        is known of the module alone, so it is tried, and the graph is kept if its outputs are the network's. It costs
        what the module costs.
    """

    def __init__(self, inputs: Mapping[str, InputShape], module: nn.Module | Sequence[nn.Module] | None = None):
        super().__init__(inputs)
        if module is None:
            raise RecipeError(
                "The 'module' encoder needs the network itself: pass encoder=your_module in Python. "
                "A bundle made with it needs the same module again to load: polytask.load(path, module=your_module)."
            )
        if len(set(map(str, (shape.to_json() for shape in inputs.values())))) != 1:
            raise InputError("An encoder of your own meets sources of one shape only; got sources of different shapes.")
        is_whole = isinstance(module, nn.Module) and not isinstance(module, nn.Sequential)
        self.stages = nn.ModuleList([module] if is_whole else module)  # type: ignore[list-item, arg-type]
        self.width = self._probe(next(iter(inputs.values())))

    @torch.no_grad()
    def _probe(self, shape: InputShape) -> int:
        was_training = self.training
        self.eval()
        rows = {
            name: torch.zeros(2, *field.shape, dtype=torch.int64 if field.cardinalities else torch.float32)
            for name, field in shape.fields.items()
        }
        out = self(rows if len(rows) > 1 else next(iter(rows.values())))
        self.train(was_training)
        if not (isinstance(out, torch.Tensor) and out.ndim == 2):
            got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise RecipeError(f"An encoder must turn B rows into [B, D]; for 2 rows this module gave {got}.")
        return out.shape[1]
