"""Parts of a source's inputs that single tasks read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polytask.errors import RecipeError
from polytask.models.inputs import Field, InputShape
from polytask.shapes import Inputs, Tensor

__all__ = ["View", "adapter_name", "read_shapes", "select_view", "view_of"]

View = Mapping[str, tuple[int, ...]]
"""Part of a source's inputs that a task reads: per field, the columns."""


def view_of(views: Mapping[str, Mapping[str, View]], task: str, source: str | None) -> View | None:
    """What the task reads of the source; ``None`` for all of it."""
    by_source = views.get(task, {})
    if source is None and len(by_source) == 1:
        return next(iter(by_source.values()))
    return by_source.get(source or "")


def select_view(inputs: Inputs, view: View | None) -> Inputs:
    """The part of the inputs that a view names; all of them if there is none."""
    if view is None:
        return inputs
    named = {"x": inputs} if isinstance(inputs, Tensor) else inputs
    return {name: named[name][:, list(columns)] for name, columns in view.items() if columns}


def adapter_name(source: str | None, view: View | None) -> str | None:
    """Name of the adapter that reads this part of a source."""
    if view is None:
        return source
    return f"{source or ''}[{';'.join(f'{name}:{list(columns)}' for name, columns in sorted(view.items()))}]"


def read_shapes(
    inputs: Mapping[str, InputShape], tasks: Sequence[str], views: Mapping[str, Mapping[str, View]]
) -> dict[str, InputShape]:
    """Shape of each source, and of each part of it that some tasks read, by the name of its adapter.

    Raises:
        RecipeError: If a task reads nothing.
    """
    if not views:
        return dict(inputs)
    shapes: dict[str, InputShape] = {}
    for source, shape in inputs.items():
        for task in tasks:
            view = views.get(task, {}).get(source)
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
