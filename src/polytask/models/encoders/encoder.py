"""The encoder's contract."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import nn

from polytask.errors import InputError
from polytask.models.inputs import InputShape
from polytask.models.stages import run_stages
from polytask.shapes import Bool, Float, Inputs, Tensor

__all__ = ["Encoder"]


class Encoder(nn.Module, ABC):
    """Inputs of any source to a representation, as a list of stages.

    A subclass takes ``inputs`` (the shape of each source's inputs) and its options, builds :attr:`stages` and
    says the :attr:`width` of what comes out. The first stages may be :class:`~polytask.models.stages.BySource`,
    so that sources of different shapes meet one trunk; sharing may split after any stage.
    """

    stages: nn.ModuleList
    width: int
    """Width D of the last stage's output."""
    n_members: int = 1
    """Number of members k of an ensemble; the rows that come out are then ``B * k``, each row's members together."""
    has_elements: ClassVar[bool] = False
    """Whether it represents the L elements of a row, such as words: the rows that come out are then ``B * L``."""
    has_pixels: ClassVar[bool] = False
    """Whether it represents the H W pixels of an image and, after them, the whole: ``B * (H W + 1)`` rows come out."""
    has_table_settings: ClassVar[bool] = False
    """Whether it is trained, where a recipe does not say otherwise, with the settings that were found for tables."""
    exports: ClassVar[bool] = False
    """Whether it claims to export: ``tests/reference/test_exported_graphs.py`` holds it to that."""
    why_no_export: ClassVar[str] = ""
    """If it does not: what a graph cannot do of it, as users are told."""

    def __init__(self, inputs: Mapping[str, InputShape]):
        super().__init__()
        self.inputs = dict(inputs)

    @staticmethod
    def present(inputs: Inputs) -> Bool[Tensor, "B ..."]:
        """Which elements of each row are there: ``[B, L]``, those after the last one being padding, or ``[B, H, W]``.

        Raises:
            InputError: If the encoder knows neither elements nor pixels.
        """
        raise InputError("This encoder represents rows, and knows no elements of a row.")

    def presence(self) -> Callable[[Inputs], Bool[Tensor, "B ..."]]:
        """:meth:`present` for encoders that have to know more than the inputs; what it gives holds no parameters."""
        return type(self).present

    def forward(self, inputs: Inputs, source: str | None = None) -> Float[Tensor, "B ..."]:
        """All stages one after another."""
        out: Tensor = run_stages(self.stages, inputs, source)
        return out
