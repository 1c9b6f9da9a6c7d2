"""The network of a run: encoder, sharing and heads, built from plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders import registry as encoders
from polytask.models.encoders.encoder import Encoder
from polytask.models.heads import Heads
from polytask.models.inputs import Field, InputShape
from polytask.models.sharing import registry as sharings
from polytask.models.sharing.sharing import Features, Sharing
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["ModelSpec", "MultiTaskModel", "View", "build_model"]

View = Mapping[str, tuple[int, ...]]
"""Part of a source's inputs that a task reads: per field, the columns."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build the network again, as plain data.

    Args:
        inputs: Shape of each source's inputs.
        n_outputs: Head width of each task, in order.
        encoder: Name of the encoder.
        sharing: Name of the sharing.
        encoder_options: Options of the encoder.
        sharing_options: Options of the sharing.
        head_hidden: Widths of hidden layers in every head.
        views: For tasks that read only part of the inputs: per task and source, the columns of each field.
    """

    inputs: Mapping[str, InputShape]
    n_outputs: Mapping[str, int]
    encoder: str = "mlp"
    sharing: str = "hard"
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    sharing_options: Mapping[str, Any] = field(default_factory=dict)
    head_hidden: tuple[int, ...] = ()
    views: Mapping[str, Mapping[str, View]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it; a module given as an option is left out and must be given again."""
        return {
            "inputs": {source: shape.to_json() for source, shape in self.inputs.items()},
            "n_outputs": dict(self.n_outputs),
            "encoder": self.encoder,
            "sharing": self.sharing,
            "encoder_options": {k: v for k, v in self.encoder_options.items() if k != "module"},
            "sharing_options": dict(self.sharing_options),
            "head_hidden": list(self.head_hidden),
            "views": {
                task: {source: {k: list(v) for k, v in view.items()} for source, view in by_source.items()}
                for task, by_source in self.views.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """Take back what :meth:`to_json` gave."""
        views = {
            task: {source: {k: tuple(v) for k, v in view.items()} for source, view in by_source.items()}
            for task, by_source in data["views"].items()
        }
        inputs = {source: InputShape.from_json(shape) for source, shape in data["inputs"].items()}
        return cls(**{**data, "inputs": inputs, "views": views, "head_hidden": tuple(data["head_hidden"])})


class MultiTaskModel(nn.Module):
    """Encoder, sharing and heads: inputs of a source to each task's outputs.

    Args:
        sharing: The shared and private parts below the heads.
        heads: The heads.
        views: For tasks that read part of the inputs only, see :class:`ModelSpec`.

    Shape:
        inputs ``[B, ...]`` -> per task ``[B, O]``
    """

    def __init__(self, sharing: Sharing, heads: Heads, views: Mapping[str, Mapping[str, View]] | None = None):
        super().__init__()
        self.sharing = sharing
        self.heads = heads
        self.tasks = sharing.tasks
        self.views = dict(views or {})

    def forward(
        self, inputs: Inputs, tasks: Sequence[str] | None = None, source: str | None = None
    ) -> dict[str, Float[Tensor, "B O"]]:
        """Outputs of the given tasks (all by default); the shared part runs once."""
        return self.features_and_outputs(inputs, tasks, source)[1]

    def features_and_outputs(
        self, inputs: Inputs, tasks: Sequence[str] | None = None, source: str | None = None
    ) -> tuple[Features, dict[str, Float[Tensor, "B O"]]]:
        """The tensors at which the shared part ends, for the balancer, and the outputs."""
        asked = self.tasks if tasks is None else tuple(tasks)
        if not self.views:
            features = self.sharing.shared(inputs, asked, source)
            return features, self.heads(self.sharing.private(features, asked, source))
        by_task: dict[str, Tensor] = {}
        representations: dict[str, Tensor] = {}
        for together, view in self._groups(asked, source):
            features = self.sharing.shared(_select(inputs, view), together, adapter_name(source, view))
            representations |= self.sharing.private(features, together, adapter_name(source, view))
            by_task |= dict.fromkeys(together, features) if isinstance(features, Tensor) else features
        return by_task, self.heads({task: representations[task] for task in asked})

    def _groups(self, tasks: Sequence[str], source: str | None) -> list[tuple[list[str], View | None]]:
        """Tasks that read the same inputs, so that the shared part runs once for them."""
        groups: list[tuple[list[str], View | None]] = []
        for task in tasks:
            view = _view(self.views, task, source)
            for members, known in groups:
                if known == view:
                    members.append(task)
                    break
            else:
                groups.append(([task], view))
        return groups

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that more than one task reaches and that are trained."""
        return [parameter for parameter in self.sharing.shared_parameters() if parameter.requires_grad]


def build_model(spec: ModelSpec, module: nn.Module | None = None) -> MultiTaskModel:
    """Build the network of a specification, with newly drawn parameters.

    Args:
        spec: What to build.
        module: The user's network, for the ``module`` encoder.

    Raises:
        UnknownNameError: If the encoder or the sharing is not known.
        RecipeError: If an option is not one of theirs.
    """
    options = dict(spec.encoder_options)
    if module is not None:
        options["module"] = module
    encoder: Encoder = encoders.create(spec.encoder, _adapter_inputs(spec), **options)
    sharing: Sharing = sharings.create(spec.sharing, encoder, list(spec.n_outputs), **spec.sharing_options)
    return MultiTaskModel(sharing, Heads(sharing.width, spec.n_outputs, spec.head_hidden), spec.views)


def adapter_name(source: str | None, view: View | None) -> str | None:
    """Name of the adapter that reads this part of a source."""
    if view is None:
        return source
    return f"{source or ''}[{';'.join(f'{name}:{list(columns)}' for name, columns in sorted(view.items()))}]"


def _view(views: Mapping[str, Mapping[str, View]], task: str, source: str | None) -> View | None:
    by_source = views.get(task, {})
    if source is None and len(by_source) == 1:
        return next(iter(by_source.values()))
    return by_source.get(source or "")


def _adapter_inputs(spec: ModelSpec) -> dict[str, InputShape]:
    """Shape of each source, and of each part of it that some tasks read."""
    if not spec.views:
        return dict(spec.inputs)
    shapes: dict[str, InputShape] = {}
    for source, shape in spec.inputs.items():
        for task in spec.n_outputs:
            view = spec.views.get(task, {}).get(source)
            shapes[adapter_name(source, view) or ""] = shape if view is None else _selected_shape(shape, view, task)
    return shapes


def _selected_shape(shape: InputShape, view: View, task: str) -> InputShape:
    fields = {}
    for name, columns in view.items():
        known = shape.fields[name]
        if columns:
            codes = tuple(known.cardinalities[c] for c in columns) if known.cardinalities else ()
            fields[name] = Field((len(columns), *known.shape[1:]), codes)
    if not fields:
        raise RecipeError(f"Task {task!r} reads no input at all; give it at least one.")
    return InputShape(fields)


def _select(inputs: Inputs, view: View | None) -> Inputs:
    if view is None:
        return inputs
    named = {"x": inputs} if isinstance(inputs, Tensor) else inputs
    return {name: named[name][:, list(columns)] for name, columns in view.items() if columns}
