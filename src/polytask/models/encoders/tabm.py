"""The encoder for tables that is an ensemble: k networks that differ by a few vectors, trained at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.adapters import adapt
from polytask.models.dropout import Dropout
from polytask.models.encoders.encoder import Encoder
from polytask.models.encoders.tabular import FieldsEmbedding
from polytask.models.inputs import InputShape
from polytask.shapes import Float, Inputs, Tensor

__all__ = ["EnsembleLinear", "TabM"]


class TabM(Encoder):
    r"""A parameter-efficient ensemble of multilayer perceptrons on embedded numbers and categories.

    All ``k`` members share the weight matrices; member :math:`j` has three vectors of its own in each layer,

    .. math:: l_j(x) = s_j \odot \big( W (r_j \odot x) \big) + b_j,

    followed by ReLU and dropout. The heads are the members' own. Each member is trained by its own loss, on the same
    batch; the answer is the mean of their answers, of probabilities where the task has them.

    Args:
        inputs: Shape of each source's inputs.
        k: Number of members; 32 in the paper, and 8 by default for the sake of time.
        width: Width of each layer.
        n_blocks: Number of layers; each is a stage.
        dropout: Probability of dropping a unit after each layer.
        mini: Leave out all vectors but the first layer's :math:`r_j` (TabM-mini).
        numeric_embedding: See :class:`~polytask.models.encoders.tabular.Tabular`.
        embedding_width: Width of one embedded number.

    Shape:
        fields of ``B`` rows -> ``[B * k, width]``, the members of a row one after another

    Raises:
        RecipeError: If there is no member or no layer.

    Example:
        >>> from polytask.models.inputs import Field
        >>> encoder = TabM({"main": InputShape({"numeric": Field((3,))})}, k=4, width=16)
        >>> encoder({"numeric": torch.zeros(5, 3)}).shape
        torch.Size([20, 16])

    Note:
        The members lie among the rows, so that every way of sharing that works row by row takes them. It costs
        ``k`` times the arithmetic of one network, and little more than its parameters.

    References:
        Gorishniy, Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling",
        ICLR 2025, sections 3.2 and 3.3; Wen, Tran and Ba, "BatchEnsemble: an Alternative Approach to Efficient Ensemble
        and Lifelong Learning", ICLR 2020, equation 1.
    """

    has_table_settings: ClassVar[bool] = True
    exports: ClassVar[bool] = True

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        k: int = 8,
        width: int = 128,
        n_blocks: int = 2,
        dropout: float = 0.2,
        mini: bool = False,
        numeric_embedding: str = "mixed",
        embedding_width: int = 4,
    ):
        super().__init__(inputs)
        if k < 1 or n_blocks < 1:
            raise RecipeError(f"TabM needs at least one member and one layer, got k={k} and n_blocks={n_blocks}.")
        stem = adapt(
            inputs,
            lambda shape: _First(FieldsEmbedding(shape, numeric_embedding, embedding_width), width, k, dropout, mini),
            share_equal=False,
        )
        above = (
            nn.Sequential(
                nn.Linear(width, width) if mini else EnsembleLinear(width, width, k), nn.ReLU(), Dropout(dropout)
            )
            for _ in range(n_blocks - 1)
        )
        self.stages = nn.ModuleList([stem, *above])
        self.width = width
        self.n_members = k


class EnsembleLinear(nn.Module):
    r"""``k`` dense layers with one weight matrix: :math:`s_j \odot (W (r_j \odot x_j)) + b_j`.

    Args:
        n_in: Width before.
        n_out: Width after.
        k: Number of members.
        chunks: For the first layer, the widths of the pieces of its input, one for each column of the table: each
            member starts with a normal random factor for each piece, so that the members differ. Factors
            start at 1 if not given.

    Shape:
        ``[B * k, n_in]`` (for the first layer ``[B, n_in]``) -> ``[B * k, n_out]``
    """

    without_decay = ("r", "s", "bias")

    def __init__(self, n_in: int, n_out: int, k: int, chunks: Sequence[int] = ()):
        super().__init__()
        self.k, self.chunks = k, tuple(chunks)
        self.dense = nn.Linear(n_in, n_out, bias=False)
        self.r = nn.Parameter(torch.empty(k, n_in))
        self.s = nn.Parameter(torch.empty(k, n_out))
        self.bias = nn.Parameter(torch.empty(k, n_out))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights as a dense layer's; members start with the same bias."""
        bound = self.dense.in_features**-0.5
        nn.init.uniform_(self.dense.weight, -bound, bound)
        nn.init.ones_(self.s)
        self.bias.copy_(torch.empty_like(self.bias[0]).uniform_(-bound, bound))
        self.r.copy_(_factors(self.k, self.chunks) if self.chunks else torch.ones_like(self.r))

    def forward(self, x: Float[Tensor, "Bk n_in"]) -> Float[Tensor, "Bk n_out"]:
        """All members at once."""
        members = x.unsqueeze(1) if self.chunks else x.unflatten(0, (-1, self.k))
        return torch.addcmul(self.bias, self.dense(members * self.r), self.s).flatten(0, 1)


class _MiniFirst(nn.Module):
    """The one place where the members of TabM-mini differ: ``W (r_j * x) + b``."""

    without_decay = ("r",)

    def __init__(self, n_in: int, n_out: int, k: int, chunks: Sequence[int]):
        super().__init__()
        self.chunks = tuple(chunks)
        self.r = nn.Parameter(torch.empty(k, n_in))
        self.dense = nn.Linear(n_in, n_out)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.r.copy_(_factors(len(self.r), self.chunks))

    def forward(self, x: Float[Tensor, "B n_in"]) -> Float[Tensor, "Bk n_out"]:
        out: Tensor = self.dense((x.unsqueeze(1) * self.r).flatten(0, 1))
        return out


class _First(nn.Module):
    """Fields of one source to ``[B * k, width]``."""

    def __init__(self, embedding: FieldsEmbedding, width: int, k: int, dropout: float, mini: bool):
        super().__init__()
        self.embedding = embedding
        self.dense = (_MiniFirst if mini else EnsembleLinear)(embedding.width, width, k, embedding.widths)
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Inputs) -> Float[Tensor, "Bk width"]:
        out: Tensor = self.dropout(self.dense(self.embedding(inputs)).relu())
        return out


def _factors(k: int, chunks: Sequence[int]) -> Float[Tensor, "k n_in"]:
    return torch.randn(k, len(chunks)).repeat_interleave(torch.tensor(chunks), dim=1)
