"""The layers of a network from the inputs up, for schedules that train some of them."""

from __future__ import annotations

from torch import nn

from polytask.models.model import MultiTaskModel

__all__ = ["layers_of"]


def layers_of(model: MultiTaskModel) -> list[list[nn.Parameter]]:
    """Parameters below the heads, layer by layer from the inputs up.

    A layer is a stage of the trunk, or another part of the sharing that has parameters (the tasks' towers, gates, or
    adapters together), in the order in which the sharing holds them.

    Example:
        >>> from polytask.models.inputs import Field, InputShape
        >>> from polytask.models.building import build_model
        >>> from polytask.models.spec import ModelSpec
        >>> shape = InputShape({"x": Field((4,))})
        >>> spec = ModelSpec({"main": shape}, {"a": 1, "b": 1}, encoder_options={"widths": (8, 8)})
        >>> [sum(p.numel() for p in layer) for layer in layers_of(build_model(spec))]
        [40, 72]
    """
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.sharing.named_parameters():
        first, _, rest = name.partition(".")
        second = rest.partition(".")[0]
        layers.setdefault(f"{first}.{second}" if second.isdigit() else first, []).append(parameter)
    return list(layers.values())
