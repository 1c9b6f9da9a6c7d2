"""What encoders of words have in common: codes in, vectors of elements out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import InputError, RecipeError
from polytask.models.encoders.encoder import Encoder
from polytask.models.inputs import SINGLE, InputShape
from polytask.models.stages import BySource
from polytask.shapes import Bool, Float, Inputs, Int, Tensor

__all__ = ["ShortVectors", "WordEncoder", "WordVectors", "codes_of", "trimmed", "word_sizes"]


class WordEncoder(Encoder):
    """Encoders of words: padding left out where all rows of a batch have it, one dense layer a word at the end.

    Args:
        inputs: Shape of each source's inputs: codes of words ``[L]``, or ``words`` and their ``pieces`` ``[L, P]``.
        context: Makes the module between the words' vectors and the dense layer, from their width.
        width: Width of the last stage.
        embedding_width: Width of the words' vectors.
        vocabulary: Number of codes of words where the inputs do not say it.
        dropout: Probability of dropping a number of a word's vector.
    """

    has_elements = True
    vectors: ClassVar[type[nn.Embedding]] = nn.Embedding
    """What the words' vectors are."""

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        context: nn.Module,
        context_width: int,
        width: int,
        embedding_width: int,
        vocabulary: int | None,
        dropout: float,
    ):
        super().__init__(inputs)
        sizes = [word_sizes(source, shape, vocabulary) for source, shape in inputs.items()]
        if len(set(sizes)) > 1:
            raise InputError(
                f"The sources count {sorted({words for words, _ in sizes})} words and {sorted({n for _, n in sizes})} "
                "pieces; give them one Vocabulary."
            )
        trunk = nn.Sequential(WordVectors(*sizes[0], embedding_width, dropout, self.vectors), context, _Rows())
        self.stages = nn.ModuleList(
            [
                trimmed(inputs).followed_by(trunk),
                nn.Sequential(nn.Linear(context_width, width), nn.ReLU(), nn.Dropout(dropout)),
            ]
        )
        self.width = width

    @staticmethod
    def present(inputs: Inputs) -> Bool[Tensor, "B L"]:
        """Which words are there: those whose code is not 0."""
        return (inputs if isinstance(inputs, Tensor) else inputs["words"]) != 0


class ShortVectors(nn.Embedding):
    """Vectors that begin with a length of about one, whatever their width.

    Transformers multiply them by the root of the width before places are added: longer ones would leave the places next
    to nothing beside the words.
    """

    def reset_parameters(self) -> None:
        """Begin anew."""
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)
        self._fill_padding_idx_with_zero()


class WordVectors(nn.Module):
    """A word's vector, and the mean of its pieces' vectors, added.

    Args:
        n_words: Number of codes of words.
        n_pieces: Number of codes of pieces.
        width: Width of the vectors.
        dropout: Probability of dropping a number.
        vectors: What the vectors are; :class:`ShortVectors` below attention.

    Shape:
        codes ``[B, L, 1 + P]`` -> ``([B, L, D], present [B, L])``
    """

    def __init__(
        self, n_words: int, n_pieces: int, width: int, dropout: float, vectors: type[nn.Embedding] = nn.Embedding
    ):
        super().__init__()
        self.words = vectors(n_words, width, padding_idx=0)
        self.pieces = vectors(n_pieces, width, padding_idx=0) if n_pieces else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, codes: Int[Tensor, "B L C"]) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]:
        vectors = self.words(codes[..., 0])
        if self.pieces is not None:
            parts = codes[..., 1:]
            count = (parts != 0).sum(-1, keepdim=True).clamp_min(1)
            vectors = vectors + self.pieces(parts).sum(-2) / count
        return self.dropout(vectors), codes[..., 0] != 0


def trimmed(inputs: Mapping[str, InputShape]) -> BySource:
    """A stage that puts each source's codes side by side, as long as the longest row of the batch."""
    return BySource({source: _Trim() for source in inputs})


class _Trim(nn.Module):
    """Codes of a source side by side, as long as the longest row of the batch."""

    def forward(self, inputs: Inputs) -> Int[Tensor, "B L C"]:
        return codes_of(inputs)


def codes_of(inputs: Inputs) -> Int[Tensor, "B L C"]:
    """Codes of words and of their pieces side by side, without the padding that all rows of the batch have."""
    words = (inputs if isinstance(inputs, Tensor) else inputs["words"]).long()
    codes = words.unsqueeze(-1)
    if not isinstance(inputs, Tensor) and "pieces" in inputs:
        codes = torch.cat([codes, inputs["pieces"].long()], -1)
    if torch.compiler.is_exporting():
        return codes
    return codes[:, : max(int((words != 0).sum(1).max()), 1)]


class _Rows(nn.Module):
    """Each element a row."""

    def forward(self, vectors: Float[Tensor, "B L D"]) -> Float[Tensor, "BL D"]:
        return vectors.flatten(0, 1)


def word_sizes(source: str, shape: InputShape, vocabulary: int | None) -> tuple[int, int]:
    """Number of codes of words and of pieces."""
    fields = dict(shape.fields)
    words = fields.pop("words", None) or (fields.pop(SINGLE, None) if len(fields) == 1 else None)
    pieces = fields.pop("pieces", None)
    if words is None or len(words.shape) != 1 or fields or (pieces is not None and len(pieces.shape) != 2):
        found = {name: field.shape for name, field in shape.fields.items()}
        raise InputError(
            f"An encoder of words needs codes of shape (L,) a row, or 'words' (L,) and 'pieces' (L, P); source "
            f"{source!r} has {found}."
        )
    n_words = vocabulary or next(iter(words.cardinalities), 0)
    n_pieces = next(iter(pieces.cardinalities), 0) if pieces is not None else 0
    if n_words < 2 or (pieces is not None and n_pieces < 2):
        raise RecipeError(
            f"Source {source!r} does not say how many codes there are: give it as texts (TextData), or set the "
            "encoder's option vocabulary."
        )
    return n_words, n_pieces
