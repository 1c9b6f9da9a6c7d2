"""Encoders of every kind with rows for them, on which a way of sharing is checked, and rows changed in simple ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from polytask.models.encoders import registry as encoders
from polytask.models.inputs import InputShape
from polytask.models.model import MultiTaskModel
from polytask.models.sharing.sharing import Sharing
from polytask.shapes import Inputs, Tensor

__all__ = ["TASKS", "Case", "all_cases", "every", "length", "numbers", "shift", "spoil_first", "take"]

TASKS = ("first", "second.part", "keys")
"""Names that are hard to hold: a dot, and the name of a method of a dict."""


@dataclass(frozen=True)
class Case:
    """An encoder and rows for it.

    Args:
        name: What messages call it.
        encoder: Name of the encoder.
        rows: Rows of each source.
        options: Options of the encoder.
        is_exported: Whether ways of sharing that claim to export are exported with it.
    """

    name: str
    encoder: str
    rows: Mapping[str, Inputs]
    options: Mapping[str, Any] = field(default_factory=dict)
    is_exported: bool = False

    def build(self, cls: type[Sharing], tasks: Sequence[str], options: Mapping[str, Any], seed: int = 0) -> Sharing:
        """The way of sharing above the encoder."""
        torch.manual_seed(seed)
        inputs = {source: InputShape.of(rows, _codes(rows)) for source, rows in self.rows.items()}
        encoder = encoders.create(self.encoder, inputs, **self.options)
        return cls(encoder, list(tasks), **options)

    def model(
        self, cls: type[Sharing], tasks: Sequence[str], options: Mapping[str, Any], n_outputs: int = 1
    ) -> MultiTaskModel:
        """The same with heads."""
        sharing = self.build(cls, tasks, options)
        return MultiTaskModel(sharing, sharing.make_heads(dict.fromkeys(tasks, n_outputs)))


def _codes(rows: Inputs) -> dict[str, tuple[int, ...]]:
    if isinstance(rows, Tensor):
        return {}
    return {name: (5,) * t.shape[1] for name, t in rows.items() if not t.is_floating_point()}


def all_cases(b: int = 6) -> Iterator[Case]:
    """Encoders of vectors, tables, images and waves, of one source and of two, with ``b`` rows."""
    g = torch.Generator().manual_seed(1)
    vectors = torch.randn(b, 7, generator=g)
    yield Case("mlp", "mlp", {"main": vectors}, {"widths": (12, 10, 8)}, is_exported=True)
    yield Case("mlp_two_sources", "mlp", {"left": vectors, "right": vectors[:, :4]}, {"widths": (9, 8)})
    table: Inputs = {"numeric": vectors, "categorical": torch.randint(0, 5, (b, 2), generator=g)}
    yield Case("tabular", "tabular", {"main": table}, {"width": 8, "n_blocks": 2, "dropout": 0.0})
    images = torch.randn(b, 14, 14, generator=g)
    yield Case("cnn", "cnn", {"main": images}, {"channels": (3, 5), "width": 8}, is_exported=True)
    colour = torch.randn(b, 3, 16, 16, generator=g)
    yield Case("cnn_two_sources", "cnn", {"left": images, "right": colour}, {"channels": (4,), "width": 8})
    yield Case("resnet18", "resnet18", {"main": images}, {"base": 2})
    waves = torch.randn(b, 400, generator=g)
    yield Case("speech", "speech", {"main": waves}, {"channels": (3, 4), "width": 8, "n_mels": 8}, is_exported=True)


def every(rows: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The same with every tensor changed."""
    return change(rows) if isinstance(rows, Tensor) else {name: change(t) for name, t in rows.items()}


def numbers(rows: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The same with numbers changed and codes left as they are."""
    return every(rows, lambda t: change(t) if t.is_floating_point() else t)


def spoil_first(t: Tensor) -> Tensor:
    """The first row NaN."""
    return torch.cat([torch.full_like(t[:1], torch.nan), t[1:]])


def take(rows: Inputs, n: int) -> Inputs:
    """The first rows."""
    return every(rows, lambda t: t[:n])


def shift(rows: Inputs, by: int) -> Inputs:
    """Other rows of the same shape: numbers higher, codes further round."""
    return every(rows, lambda t: t + by if t.is_floating_point() else (t + by) % 5)


def length(rows: Inputs) -> int:
    """How many rows there are."""
    return len(rows if isinstance(rows, Tensor) else next(iter(rows.values())))
