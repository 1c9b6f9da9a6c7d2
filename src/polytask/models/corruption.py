"""Spoiled copies of inputs, for tasks that learn to rebuild them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from polytask.errors import RecipeError
from polytask.shapes import Inputs, Tensor

__all__ = ["Corruption"]


@dataclass(frozen=True)
class Corruption:
    """What a task's network reads in training in place of the rows themselves.

    Args:
        way: ``swap`` (each value, with probability ``share``, is that of another row of the batch), ``zero`` (numbers
            are zero with that probability) or ``noise`` (numbers get Gaussian noise of deviation ``share``). Codes can
            only be swapped.
        share: See ``way``.

    Raises:
        RecipeError: If there is no such way, or the share is out of range.

    Example:
        >>> rows = torch.arange(6.0).reshape(3, 2)
        >>> spoiled = Corruption("swap", share=1.0)(rows)
        >>> sorted(spoiled[:, 0].tolist()) == [0.0, 2.0, 4.0], Corruption("swap", share=0.0)(rows).equal(rows)
        (True, True)
    """

    way: str = "swap"
    share: float = 0.3

    def __post_init__(self) -> None:
        if self.way not in ("swap", "zero", "noise"):
            raise RecipeError(f"A corruption is one of swap, zero and noise, got {self.way!r}.")
        if not (self.share >= 0 and (self.way == "noise" or self.share <= 1)):
            raise RecipeError(f"A corruption needs a share between 0 and 1, got {self.share!r}.")

    def __call__(self, inputs: Inputs) -> Inputs:
        """A spoiled copy; the rows themselves are left as they are."""
        if isinstance(inputs, Tensor):
            return self._spoil(inputs)
        return {name: self._spoil(field) for name, field in inputs.items()}

    def _spoil(self, field: Tensor) -> Tensor:
        if self.way == "swap":
            order = torch.argsort(torch.rand(len(field), device=field.device))
            return torch.where(self._drawn(field), field[order], field)
        if not (field.is_floating_point() or field.dtype == torch.uint8):
            return field
        if self.way == "zero":
            return field.masked_fill(self._drawn(field), 0)
        numbers = field if field.is_floating_point() else field.to(torch.get_default_dtype()) / 255
        return numbers + self.share * torch.randn_like(numbers)

    def _drawn(self, field: Tensor) -> Tensor:
        return torch.rand(field.shape, device=field.device) < self.share
