"""A network as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from polytask.errors import RecipeError
from polytask.models.corruption import Corruption
from polytask.models.encoders import registry as encoders
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape
from polytask.models.views import View

__all__ = ["ModelSpec", "check_encoder"]


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
        head_hidden_of: The same for tasks whose heads have their own, such as decoders.
        corruptions: For tasks that read spoiled copies of the inputs in training: how they are spoiled.
        links: What each task's outputs stand for, so that the members of an ensemble are averaged rightly, see
            :func:`polytask.tasks.members.mean_answer`; ``identity`` for tasks that are not named.
        views: For tasks that read only part of the inputs: per task and source, the columns of each field.
        element_tasks: Tasks that answer for each element of a row, such as a word or a pixel.
        pixel_tasks: Those of them whose elements are the pixels of an image.
        own_norms: Sources with normalisation layers of their own.
    """

    inputs: Mapping[str, InputShape]
    n_outputs: Mapping[str, int]
    encoder: str = "mlp"
    sharing: str = "hard"
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    sharing_options: Mapping[str, Any] = field(default_factory=dict)
    head_hidden: tuple[int, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    views: Mapping[str, Mapping[str, View]] = field(default_factory=dict)
    head_hidden_of: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    corruptions: Mapping[str, Corruption] = field(default_factory=dict)
    element_tasks: tuple[str, ...] = ()
    own_norms: tuple[str, ...] = ()
    pixel_tasks: tuple[str, ...] = ()

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
            "links": dict(self.links),
            "views": {
                task: {source: {k: list(v) for k, v in view.items()} for source, view in by_source.items()}
                for task, by_source in self.views.items()
            },
            "head_hidden_of": {task: list(widths) for task, widths in self.head_hidden_of.items()},
            "corruptions": {task: asdict(corruption) for task, corruption in self.corruptions.items()},
            "element_tasks": list(self.element_tasks),
            "own_norms": list(self.own_norms),
            **({"pixel_tasks": list(self.pixel_tasks)} if self.pixel_tasks else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """Take back what :meth:`to_json` gave."""
        views = {
            task: {source: {k: tuple(v) for k, v in view.items()} for source, view in by_source.items()}
            for task, by_source in data["views"].items()
        }
        inputs = {source: InputShape.from_json(shape) for source, shape in data["inputs"].items()}
        taken = {
            "inputs": inputs,
            "views": views,
            "head_hidden": tuple(data["head_hidden"]),
            "head_hidden_of": {task: tuple(widths) for task, widths in data.get("head_hidden_of", {}).items()},
            "corruptions": {task: Corruption(**options) for task, options in data.get("corruptions", {}).items()},
            "element_tasks": tuple(data.get("element_tasks", ())),
            "own_norms": tuple(data.get("own_norms", ())),
            "pixel_tasks": tuple(data.get("pixel_tasks", ())),
        }
        return cls(**{**data, **taken})


def check_encoder(spec: ModelSpec) -> None:
    """Raise if a task asks for elements or pixels that the encoder does not represent."""
    encoder: type[Encoder] = encoders.load(spec.encoder)
    if spec.views and (encoder.has_elements or encoder.has_pixels):
        raise RecipeError(f"With the encoder {spec.encoder!r} all tasks read all inputs; leave `inputs` of tasks out.")
    represented = "pixels" if encoder.has_pixels else "elements such as words" if encoder.has_elements else "rows"
    of_pixels = spec.pixel_tasks
    of_words = [task for task in spec.element_tasks if task not in of_pixels]
    for asking, attribute, asked in ((of_pixels, "has_pixels", "pixel"), (of_words, "has_elements", "element")):
        if asking and not getattr(encoder, attribute):
            able = ", ".join(name for name in encoders.names() if getattr(encoders.load(name), attribute))
            raise RecipeError(
                f"Task {asking[0]!r} answers for each {asked} of a row, and the encoder {spec.encoder!r} represents "
                f"{represented}. Encoders of {asked}s: {able}."
            )
