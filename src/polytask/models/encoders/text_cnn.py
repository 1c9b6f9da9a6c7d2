"""Words read in windows by convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from polytask.models.encoders._words import WordEncoder
from polytask.models.inputs import InputShape
from polytask.shapes import Bool, Float, Tensor

__all__ = ["TextCNN"]


class TextCNN(WordEncoder):
    """Convolutions over neighbouring words, each with what came before added, then one dense layer a word.

    Args:
        inputs: Shape of each source's words, see :class:`polytask.data.vocabulary.Vocabulary`; sources may differ in
            length.
        width: Width of the convolutions and of the dense layer.
        n_layers: Convolutions; each widens what a word sees by 2 words on either side.
        embedding_width: Width of the words' vectors.
        vocabulary: Number of codes of words where the inputs do not say it.
        dropout: Probability of dropping a number of a word's vector, and after the dense layer.

    Shape:
        codes ``[B, L]`` -> ``[B * L', width]``, L' the longest row of the batch

    Raises:
        InputError: If the inputs are no codes of words, or sources have different vocabularies.
        RecipeError: If nothing says how many codes there are.

    Example:
        >>> encoder = TextCNN({"notes": InputShape.of(torch.zeros(1, 6))}, width=8, vocabulary=10)
        >>> encoder(torch.tensor([[2, 3, 4, 0, 0, 0], [5, 0, 0, 0, 0, 0]])).shape
        torch.Size([6, 8])

    Note:
        Padding is zero before each convolution, as is what lies beyond the ends, so that a row's representation does
        not depend on its batch.
        An exported graph reads rows as long as the longest in training; what is shorter has the code 0 after its end.
        Its arithmetic grows with the longest row of a batch.

    References:
        Collobert et al., Natural Language Processing (Almost) from Scratch, JMLR 2011, section 3.3.2.
    """

    exports: ClassVar[bool] = True

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        width: int = 128,
        n_layers: int = 2,
        embedding_width: int = 96,
        vocabulary: int | None = None,
        dropout: float = 0.3,
    ):
        super().__init__(
            inputs, _Windows(embedding_width, width, n_layers), width, width, embedding_width, vocabulary, dropout
        )


class _Windows(nn.Module):
    def __init__(self, before: int, width: int, n_layers: int):
        super().__init__()
        self.first = nn.Linear(before, width)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(n_layers))

    def forward(self, words: tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]) -> Float[Tensor, "B L W"]:
        vectors, there = words
        x = self.first(vectors).transpose(1, 2)
        seen = there.unsqueeze(1).to(x.dtype)
        for layer in self.layers:
            x = x + torch.relu(layer(x * seen))
        out: Tensor = x.transpose(1, 2)
        return out
