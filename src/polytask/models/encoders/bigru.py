"""Words read forwards and backwards by a recurrent network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from polytask.models.encoders._words import WordEncoder
from polytask.models.inputs import InputShape
from polytask.shapes import Bool, Float, Tensor

__all__ = ["BiGRU"]


class BiGRU(WordEncoder):
    """Layers of gated recurrent units in both directions over the words, then one dense layer a word.

    Args:
        inputs: Shape of each source's words, see :class:`polytask.data.vocabulary.Vocabulary`; sources may differ in
            length.
        width: Width of each direction together, and of the dense layer.
        n_layers: Recurrent layers.
        embedding_width: Width of the words' vectors.
        vocabulary: Number of codes of words where the inputs do not say it.
        dropout: Probability of dropping a number of a word's vector, between layers, and after the dense layer.

    Shape:
        codes ``[B, L]`` -> ``[B * L', width]``, L' the longest row of the batch

    Raises:
        InputError: If the inputs are no codes of words, or sources have different vocabularies.
        RecipeError: If nothing says how many codes there are.

    Example:
        >>> import torch
        >>> encoder = BiGRU({"notes": InputShape.of(torch.zeros(1, 6))}, width=8, vocabulary=10)
        >>> encoder(torch.tensor([[2, 3, 4, 0, 0, 0], [5, 0, 0, 0, 0, 0]])).shape
        torch.Size([6, 8])

    Note:
        Padding is never read (packed sequences), so that a row's representation does not depend on its batch.
        It does not export, because packed sequences do not; ``text_cnn`` and ``transformer`` do. Its time grows with
        the longest row of a batch, because each word waits for the one before it.

    References:
        Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014, section 2.3; Schuster and
        Paliwal, Bidirectional Recurrent Neural Networks, 1997.
    """

    why_no_export: ClassVar[str] = (
        "its recurrent units read packed sequences, each as long as its text, which no graph of fixed shapes does"
    )

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        width: int = 128,
        n_layers: int = 1,
        embedding_width: int = 96,
        vocabulary: int | None = None,
        dropout: float = 0.3,
    ):
        context = _Recurrent(embedding_width, width, n_layers, dropout)
        super().__init__(inputs, context, 2 * (width // 2), width, embedding_width, vocabulary, dropout)


class _Recurrent(nn.Module):
    def __init__(self, before: int, width: int, n_layers: int, dropout: float):
        super().__init__()
        between = dropout if n_layers > 1 else 0.0
        self.gru = nn.GRU(before, width // 2, n_layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, words: tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]) -> Float[Tensor, "B L W"]:
        vectors, there = words
        lengths = there.sum(1).clamp_min(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=vectors.shape[1])
        read: Tensor = out
        return read
