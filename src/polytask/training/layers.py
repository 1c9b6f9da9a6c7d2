"""Parts of a network: its layers from the inputs up, which schedules go by, and what one task alone reaches."""

from __future__ import annotations

from torch import nn

from polytask.models.model import MultiTaskModel
from polytask.models.sharing import Sharing

__all__ = ["layers_of", "only_reached_by"]


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


def only_reached_by(network: MultiTaskModel | Sharing, task: str) -> list[nn.Parameter]:
    """The parameters that this task alone reaches: adapters, gates or towers of its own, and of a model its head."""
    others = {id(p) for other in network.tasks if other != task for p in network.reached_by(other)}
    return [p for p in network.reached_by(task) if id(p) not in others]
