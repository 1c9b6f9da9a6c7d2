"""The encoder for tables: embedded numbers and categories, then residual blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import InputError, RecipeError
from polytask.models.adapters import adapt
from polytask.models.dropout import Dropout
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import InputShape
from polytask.shapes import Float, Inputs, Int, Tensor

__all__ = ["FieldsEmbedding", "Tabular"]


class Tabular(Encoder):
    """Numbers and categories, each embedded, then a dense layer and residual blocks.

    Reads the fields ``numeric`` ``[B, Dn]`` (scaled) and ``categorical`` ``[B, Dc]`` (codes); either may be absent. The
    first stage embeds and mixes, and is one for each source; each residual block is a stage.

    Args:
        inputs: Shape of each source's inputs.
        width: Width of the representation.
        n_blocks: Number of residual blocks.
        dropout: Probability of dropping a unit inside a block.
        numeric_embedding: ``periodic`` (sines and cosines of learned frequencies, a dense layer, ReLU), ``linear``
            (one learned vector a column), ``mixed`` (periodic beside the number as it is), or ``none`` (the number
            as it is).
        embedding_width: Width of one embedded number.

    Shape:
        fields -> ``[B, width]``

    Example:
        >>> from polytask.models.inputs import Field
        >>> shape = InputShape({"numeric": Field((3,)), "categorical": Field((2,), (4, 9))})
        >>> encoder = Tabular({"main": shape}, width=32)
        >>> encoder({"numeric": torch.zeros(5, 3), "categorical": torch.zeros(5, 2, dtype=torch.int64)}).shape
        torch.Size([5, 32])

    Note:
        One network, where ``tabm``, the default for tables, is an ensemble in one: behind it on every table of
        ``docs/results.md`` (the column ``plain``). Blocks normalise by layer, so that a batch may be small. Parameters
        and arithmetic grow with the columns in the first stage, and with the square of the width in each block.

    References:
        Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", NeurIPS 2021 (the residual network);
        "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022, section 3.3 (periodic).
    """

    has_table_settings: ClassVar[bool] = True
    exports: ClassVar[bool] = True

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        width: int = 192,
        n_blocks: int = 2,
        dropout: float = 0.1,
        numeric_embedding: str = "periodic",
        embedding_width: int = 12,
    ):
        super().__init__(inputs)
        stem = adapt(
            inputs, lambda shape: _Embedding(shape, width, numeric_embedding, embedding_width), share_equal=False
        )
        self.stages = nn.ModuleList([stem, *(_ResidualBlock(width, dropout) for _ in range(n_blocks))])
        self.width = width


class FieldsEmbedding(nn.Module):
    """Fields of one source, each column embedded, side by side.

    Args:
        shape: The source's inputs: ``numeric``, ``molecule`` (bits, which stay as they are), ``categorical``, or one
            field of numbers.
        numeric: How numbers are embedded, see :class:`Tabular`.
        numeric_width: Width of one embedded number.

    Shape:
        fields -> ``[B, width]``, where :attr:`widths` are those of the columns

    Raises:
        InputError: If there are other fields.
        RecipeError: If there is no such embedding.
    """

    def __init__(self, shape: InputShape, numeric: str, numeric_width: int):
        super().__init__()
        unknown = set(shape.fields) - {"numeric", "molecule", "categorical"}
        fields = dict(shape.fields)
        if unknown == {"x"} and len(fields) == 1 and len(fields["x"].shape) == 1:
            fields = {"numeric": fields["x"]}
        elif unknown:
            raise InputError(
                "The tabular encoder reads the fields 'numeric', 'molecule' and 'categorical'; "
                f"got {sorted(shape.fields)}."
            )
        self.numeric = (
            _numeric_embedding(numeric, fields["numeric"].shape[0], numeric_width) if "numeric" in fields else None
        )
        self.categorical = _CodeEmbedding(fields["categorical"].cardinalities) if "categorical" in fields else None
        self.widths: tuple[int, ...] = ()
        if self.numeric is not None:
            each = {"none": 1, "mixed": 1 + numeric_width}.get(numeric, numeric_width)
            self.widths += (each,) * fields["numeric"].shape[0]
        self.n_bits = fields["molecule"].shape[0] if "molecule" in fields else 0
        self.widths += (1,) * self.n_bits
        if self.categorical is not None:
            self.widths += self.categorical.widths
        self.width = sum(self.widths)

    def forward(self, inputs: Inputs) -> Float[Tensor, "B width"]:
        """All columns."""
        fields = {"numeric": inputs} if isinstance(inputs, Tensor) else inputs
        parts = []
        if self.numeric is not None:
            parts.append(self.numeric(fields["numeric"]))
        if self.n_bits:
            parts.append(fields["molecule"])
        if self.categorical is not None:
            parts.append(self.categorical(fields["categorical"]))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


class _Embedding(nn.Module):
    """Fields of one source to ``[B, width]``."""

    def __init__(self, shape: InputShape, width: int, numeric: str, numeric_width: int):
        super().__init__()
        self.columns = FieldsEmbedding(shape, numeric, numeric_width)
        self.mix = nn.Linear(self.columns.width, width)

    def forward(self, inputs: Inputs) -> Float[Tensor, "B width"]:
        mixed: Tensor = self.mix(self.columns(inputs))
        return mixed


class _CodeEmbedding(nn.Module):
    """One embedding per column, held in one table so that a batch is one look-up when widths agree."""

    def __init__(self, cardinalities: tuple[int, ...]):
        super().__init__()
        # Rule of thumb for the width of an embedding: 1.6 n^0.56, at most 32.
        self.widths = tuple(min(32, max(1, round(1.6 * n**0.56))) for n in cardinalities)
        self.tables = nn.ModuleList(nn.Embedding(n, w) for n, w in zip(cardinalities, self.widths, strict=True))
        self.width = sum(self.widths)

    def forward(self, codes: Int[Tensor, "B Dc"]) -> Float[Tensor, "B width"]:
        return torch.cat([table(column) for table, column in zip(self.tables, codes.unbind(1), strict=True)], dim=1)


def _numeric_embedding(name: str, n_columns: int, width: int) -> nn.Module:
    if name == "periodic":
        return _Periodic(n_columns, width)
    if name == "linear":
        return _PerColumn(n_columns, 1, width)
    if name == "none":
        return _Plain(n_columns)
    if name == "mixed":
        return _Mixed(n_columns, width)
    raise RecipeError(f"numeric_embedding must be 'periodic', 'linear', 'mixed' or 'none', got {name!r}.")


class _Plain(nn.Module):
    def __init__(self, n_columns: int):
        super().__init__()
        self.width = n_columns

    def forward(self, x: Float[Tensor, "B Dn"]) -> Float[Tensor, "B Dn"]:
        return x


class _Mixed(nn.Module):
    """Each number as it is and its periodic embedding, column by column."""

    def __init__(self, n_columns: int, width: int):
        super().__init__()
        self.periodic = _Periodic(n_columns, width)
        self.width = n_columns * (1 + width)

    def forward(self, x: Float[Tensor, "B Dn"]) -> Float[Tensor, "B width"]:
        embedded = self.periodic(x).unflatten(1, (x.shape[1], -1))
        return torch.cat([x.unsqueeze(-1), embedded], dim=-1).flatten(1)


class _PerColumn(nn.Module):
    """A dense layer of its own for each column: ``[B, Dn, F]`` or ``[B, Dn]`` to ``[B, Dn * width]``."""

    def __init__(self, n_columns: int, n_features: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_columns, n_features, width))
        self.bias = nn.Parameter(torch.empty(n_columns, width))
        self.width = n_columns * width
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        features = x.unsqueeze(-1) if x.ndim == 2 else x
        return torch.einsum("bnf,nfw->bnw", features, self.weight).add(self.bias).relu().flatten(1)


class _Periodic(nn.Module):
    """Sines and cosines of learned frequencies beside the number itself, then a dense layer for each column."""

    def __init__(self, n_columns: int, width: int, n_frequencies: int = 8, scale: float = 0.3):
        super().__init__()
        self.scale = scale
        self.frequencies = nn.Parameter(torch.empty(n_columns, n_frequencies))
        self.dense = _PerColumn(n_columns, 2 * n_frequencies + 1, width)
        self.width = self.dense.width
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.frequencies, std=self.scale, a=-3 * self.scale, b=3 * self.scale)

    def forward(self, x: Float[Tensor, "B Dn"]) -> Float[Tensor, "B width"]:
        angles = 2 * math.pi * x.unsqueeze(-1) * self.frequencies
        out: Tensor = self.dense(torch.cat([angles.sin(), angles.cos(), x.unsqueeze(-1)], dim=-1))
        return out


class _ResidualBlock(nn.Module):
    """``x + W2 drop(relu(W1 norm(x)))``."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 2 * width)
        self.dropout = Dropout(dropout)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        change: Tensor = self.outer(self.dropout(self.inner(self.norm(x)).relu()))
        return x + change
