"""Stages: the pieces an encoder is made of, where sharing may split it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from polytask.errors import InputError
from polytask.models.inputs import SINGLE, InputShape
from polytask.shapes import Inputs, Tensor

__all__ = ["ByName", "BySource", "fresh_copy", "run_stages", "shapes_after"]


class ByName(nn.Module):
    """Modules by any string, where ``nn.ModuleDict`` refuses dots and names of its own methods.

    Example:
        >>> layers = ByName({"NR.AR": nn.Linear(2, 1), "keys": nn.Linear(2, 1)})
        >>> layers["NR.AR"].in_features, "keys" in layers, list(layers)
        (2, True, ['NR.AR', 'keys'])
    """

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self._slots = {name: f"_{i}" for i, name in enumerate(modules)}
        for name, slot in self._slots.items():
            self.add_module(slot, modules[name])

    def __getitem__(self, name: str) -> nn.Module:
        module: nn.Module = getattr(self, self._slots[name])
        return module

    def __contains__(self, name: object) -> bool:
        return name in self._slots

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, name: str, module: nn.Module) -> None:
        """Add one more under a new name."""
        if name in self._slots:
            raise KeyError(f"{name!r} is there already.")
        self._slots[name] = f"_{len(self._slots)}"
        self.add_module(self._slots[name], module)


class BySource(nn.Module):
    """A stage that has one module per source: an input adapter, a normalisation layer of its own.

    With a single source, ``source`` may be ``None``.
    """

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self.by_source = ByName(modules)
        self.after: nn.Module | None = None

    def followed_by(self, after: nn.Module) -> BySource:
        """The same stage, with a module common to all sources at its end."""
        self.after = after
        return self

    def forward(self, inputs: Inputs, source: str | None = None) -> Tensor:
        """Run the module of ``source``."""
        if source is None:
            if len(self.by_source) != 1:
                raise InputError(
                    f"The network reads the sources {', '.join(self.by_source)}: say with source= whose rows these are."
                )
            source = next(iter(self.by_source))
        out: Tensor = self.by_source[source](inputs)
        return out if self.after is None else self.after(out)


def run_stages(stages: Iterable[nn.Module], x: Any, source: str | None = None) -> Any:
    """Run stages one after another; those that have a module per source are told the source."""
    for stage in stages:
        x = stage(x, source) if isinstance(stage, BySource) else stage(x)
    return x


def fresh_copy(module: nn.Module, initialise: Callable[[nn.Module], None] | None = None) -> nn.Module:
    """A copy with newly drawn parameters, so that copies differ as separately built modules would.

    Every submodule that has ``reset_parameters`` is drawn anew; a module without one keeps its values, and so does all
    that is in one with ``is_trained`` true.
    """
    copied = copy.deepcopy(module)
    kept = {part for whole in copied.modules() if getattr(whole, "is_trained", False) for part in whole.modules()}
    for part in copied.modules():
        if part in kept:
            continue
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
    if initialise is not None:
        copied.apply(initialise)
    return copied


@torch.no_grad()
def shapes_after(stages: Iterable[nn.Module], inputs: InputShape, source: str | None = None) -> list[tuple[int, ...]]:
    """Shape of one row after each stage, found by running two rows of zeros; no state is changed.

    Example:
        >>> shape = InputShape.of(torch.zeros(1, 4))
        >>> shapes_after([nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)], shape)
        [(8,), (8,), (3,)]
    """
    rows: Any = {
        name: torch.zeros(2, *field.shape, dtype=torch.int64 if field.cardinalities else None)
        for name, field in inputs.fields.items()
    }
    x = rows if len(rows) > 1 or next(iter(rows)) != SINGLE else rows[SINGLE]
    shapes = []
    for stage in stages:
        modes = [(part, part.training) for part in stage.modules()]
        stage.eval()
        x = run_stages([stage], x, source)
        for part, mode in modes:
            part.training = mode
        shapes.append(tuple(x.shape[1:]))
    return shapes
