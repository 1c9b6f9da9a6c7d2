"""What a source's inputs look like, as plain data: enough to build an encoder before any row is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polytask.errors import InputError
from polytask.shapes import Inputs, Tensor

__all__ = ["Field", "InputShape"]

SINGLE = "x"
"""Name of the only field of a source whose inputs are one tensor."""


@dataclass(frozen=True)
class Field:
    """One input tensor without its first dimension.

    Args:
        shape: Shape of one row: ``(D,)`` for numbers, ``(C, H, W)`` for an image, ``(L,)`` for tokens.
        cardinalities: For integer codes, how many values each column can take; empty for numbers.
    """

    shape: tuple[int, ...]
    cardinalities: tuple[int, ...] = ()

    @property
    def n_values(self) -> int:
        """Numbers in one row."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True)
class InputShape:
    """The fields of a source's inputs by name.

    Example:
        >>> import torch
        >>> InputShape.of(torch.zeros(10, 3)).fields
        {'x': Field(shape=(3,), cardinalities=())}
    """

    fields: Mapping[str, Field] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: Inputs, cardinalities: Mapping[str, tuple[int, ...]] | None = None) -> InputShape:
        """Read the shape off a batch or a whole source."""
        named = {SINGLE: inputs} if isinstance(inputs, Tensor) else inputs
        known = cardinalities or {}
        return cls({name: Field(tuple(t.shape[1:]), tuple(known.get(name, ()))) for name, t in named.items()})

    def check(self, inputs: Inputs, who: str) -> None:
        """Raise if a batch does not have this shape.

        Raises:
            InputError: Naming the field, what was expected and what came.
        """
        got = InputShape.of(inputs)
        for name, expected in self.fields.items():
            if name not in got.fields:
                raise InputError(f"{who} needs the input {name!r}; got {', '.join(map(repr, got.fields)) or 'none'}.")
            if got.fields[name].shape != expected.shape:
                raise InputError(
                    f"{who} was built for {name!r} of shape {expected.shape} a row; got {got.fields[name].shape}. "
                    "Resize or select the inputs as in training."
                )

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {k: {"shape": list(f.shape), "cardinalities": list(f.cardinalities)} for k, f in self.fields.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InputShape:
        """Take back what :meth:`to_json` gave."""
        return cls({k: Field(tuple(f["shape"]), tuple(f["cardinalities"])) for k, f in data.items()})
