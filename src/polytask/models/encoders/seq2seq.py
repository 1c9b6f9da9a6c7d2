"""Texts read by a transformer, and answers written by another that looks at what was read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from polytask.errors import InputError, RecipeError
from polytask.models.encoders._words import ShortVectors, WordVectors, codes_of, word_sizes
from polytask.models.encoders.encoder import Encoder
from polytask.models.encoders.transformer import Attention, sines
from polytask.models.inputs import InputShape
from polytask.models.stages import BySource
from polytask.shapes import Bool, Float, Inputs, Int, Tensor

__all__ = ["Seq2Seq"]


class Seq2Seq(Encoder):
    """A transformer over the words, and for sources that ask for a text a second one over the answer so far.

    The elements of such a source are the places of its answer: each is represented by what stands before it and by the
    text, so that a task of elements learns to say the next word (teacher forcing). Elements of other sources are their
    words, and both read words alike.

    Args:
        inputs: Shape of each source's words and pieces, and of the answer's beginning ``prefix`` where there is one.
        width: Width of everything.
        n_layers: Layers of either transformer.
        n_heads: Heads of each attention; the width is a multiple of twice as many.
        dropout: Probability of dropping a number.

    Shape:
        codes ``[B, L]`` and ``[B, T]`` -> ``[B * T', width]``, T' the longest beginning of the batch

    Raises:
        InputError: If the inputs are no codes of words, or sources have different vocabularies.
        RecipeError: If the width does not fit the heads.

    Example:
        >>> from polytask.models.inputs import Field
        >>> shape = InputShape({"words": Field((5,), (9,)), "prefix": Field((4,), (7,))})
        >>> encoder = Seq2Seq({"titles": shape}, width=8, n_heads=2)
        >>> rows = {"words": torch.tensor([[2, 3, 0, 0, 0]]), "prefix": torch.tensor([[1, 4, 0, 0]])}
        >>> encoder(rows).shape
        torch.Size([2, 8])

    Note:
        It does not export: a text is written one word after another until it ends, which no graph of fixed shapes does.
        The work of attention grows with the squares of the lengths of text and answer, and with their product.

    References:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.1; Williams and Zipser, A Learning Algorithm
        for Continually Running Fully Recurrent Neural Networks, 1989 (teacher forcing).
    """

    has_elements = True
    why_no_export: ClassVar[str] = (
        "an answer is written word by word until it ends, which no graph of fixed shapes does"
    )

    def __init__(
        self,
        inputs: Mapping[str, InputShape],
        width: int = 128,
        n_layers: int = 2,
        n_heads: int = 4,
        dropout: float = 0.1,
    ):
        super().__init__(inputs)
        if width % (2 * n_heads):
            raise RecipeError(f"The width must be a multiple of twice the number of heads, got {width} and {n_heads}.")
        plain = {
            name: InputShape({key: field for key, field in shape.fields.items() if key != "prefix"})
            for name, shape in inputs.items()
        }
        sizes = {word_sizes(name, shape, None) for name, shape in plain.items()}
        written = {shape.fields["prefix"].cardinalities[:1] for shape in inputs.values() if "prefix" in shape.fields}
        if len(sizes) > 1 or len(written) > 1:
            raise InputError("The sources have different vocabularies; give them one Vocabulary, and one of answers.")
        n_written = next(iter(written), ())[0] if written else 0
        both = _Both(*next(iter(sizes)), n_written, width, n_layers, n_heads, dropout)
        self.stages = nn.ModuleList([BySource({source: _Read() for source in inputs}).followed_by(both)])
        self.width = width

    @staticmethod
    def present(inputs: Inputs) -> Bool[Tensor, "B L"]:
        """Which places of the answer are there; words, where no answer is asked."""
        if isinstance(inputs, Tensor):
            return inputs != 0
        return inputs["prefix" if "prefix" in inputs else "words"] != 0


class _Read(nn.Module):
    """Codes of the words, and of the answer's beginning as long as the longest of the batch."""

    def forward(self, inputs: Inputs) -> tuple[Int[Tensor, "B L C"], Int[Tensor, "B T"] | None]:
        codes = codes_of(inputs)
        if isinstance(inputs, Tensor) or "prefix" not in inputs:
            return codes, None
        prefix = inputs["prefix"].long()
        return codes, prefix[:, : max(int((prefix != 0).sum(1).max()), 1)]


class _Both(nn.Module):
    def __init__(
        self, n_words: int, n_pieces: int, n_written: int, width: int, n_layers: int, n_heads: int, dropout: float
    ):
        super().__init__()
        self.words = WordVectors(n_words, n_pieces, width, dropout, ShortVectors)
        self.reader = Attention(width, n_layers, n_heads, dropout)
        if n_written:
            self.written = ShortVectors(n_written, width, padding_idx=0)
            layer = nn.TransformerDecoderLayer(
                width, n_heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
            )
            self.writer = nn.TransformerDecoder(layer, n_layers, nn.LayerNorm(width))

    def forward(self, read: tuple[Int[Tensor, "B L C"], Int[Tensor, "B T"] | None]) -> Float[Tensor, "BT D"]:
        codes, prefix = read
        vectors, there = self.words(codes)
        text: Tensor = self.reader((vectors, there))
        if prefix is None:
            return text.flatten(0, 1)
        begun = self.written(prefix)
        begun = begun * begun.shape[-1] ** 0.5 + sines(begun)
        later = torch.ones(prefix.shape[1], prefix.shape[1], dtype=torch.bool, device=prefix.device).triu(1)
        # A text without any word is looked at as if it had them all, or attention would be over nothing.
        hidden = ~there & there.any(1, keepdim=True)
        out: Tensor = self.writer(begun, text, tgt_mask=later, memory_key_padding_mask=hidden)
        return out.flatten(0, 1)
