"""Words that attend to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import RecipeError
from polytask.models.encoders._words import ShortVectors, WordEncoder
from polytask.models.inputs import InputShape
from polytask.shapes import Bool, Float, Tensor

__all__ = ["Attention", "Transformer", "sines"]


class Transformer(WordEncoder):
    """Layers of self-attention over the words, normalised before each part, then one dense layer a word.

    Args:
        inputs: Shape of each source's words, see :class:`polytask.data.vocabulary.Vocabulary`; sources may differ in
            length.
        width: Width of the words' vectors, the attention and the dense layer.
        n_layers: Layers of attention.
        n_heads: Heads of each; the width must be a multiple.
        vocabulary: Number of codes of words where the inputs do not say it.
        dropout: Probability of dropping a number, everywhere.

    Shape:
        codes ``[B, L]`` -> ``[B * L', width]``, L' the longest row of the batch

    Raises:
        InputError: If the inputs are no codes of words, or sources have different vocabularies.
        RecipeError: If nothing says how many codes there are, or the heads do not divide the width.

    Example:
        >>> encoder = Transformer({"notes": InputShape.of(torch.zeros(1, 6))}, width=8, n_heads=2, vocabulary=10)
        >>> encoder(torch.tensor([[2, 3, 4, 0, 0, 0], [5, 0, 0, 0, 0, 0]])).shape
        torch.Size([6, 8])

    Note:
        Nothing attends to padding, so that a row's representation does not depend on its batch. With a few thousand
        training rows, recurrent and convolutional encoders learn faster.
        An exported graph reads rows as long as the longest in training; what is shorter has the code 0 after its end.
        The work of attention grows with the square of the longest row of a batch.

    References:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3 (sines for positions: 3.5); Xiong et al., On
        Layer Normalization in the Transformer Architecture, ICML 2020 (normalising before).
    """

    exports: ClassVar[bool] = True
    vectors: ClassVar[type[nn.Embedding]] = ShortVectors

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        width: int = 128,
        n_layers: int = 2,
        n_heads: int = 4,
        vocabulary: int | None = None,
        dropout: float = 0.2,
    ):
        if width % (2 * n_heads):
            raise RecipeError(f"The width must be a multiple of twice the number of heads, got {width} and {n_heads}.")
        super().__init__(inputs, Attention(width, n_layers, n_heads, dropout), width, width, width, vocabulary, dropout)


class Attention(nn.Module):
    """Vectors of words, and which are there, to vectors of words in their context."""

    def __init__(self, width: int, n_layers: int, n_heads: int, dropout: float):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, n_heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, words: tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]) -> Float[Tensor, "B L W"]:
        """The vectors of the last layer."""
        vectors, there = words
        # A row without any word attends to its padding, or attention would be over nothing and not a number.
        hidden = ~there & there.any(1, keepdim=True)
        x = vectors * vectors.shape[-1] ** 0.5 + sines(vectors)
        out: Tensor = self.layers(x, src_key_padding_mask=hidden)
        return out


def sines(vectors: Float[Tensor, "B L D"]) -> Float[Tensor, "L D"]:
    """What is added to vectors, so that their places are known."""
    length, width = vectors.shape[1:]
    rates = 10_000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).to(vectors)
