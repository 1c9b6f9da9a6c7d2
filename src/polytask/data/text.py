"""Texts to words, and words to codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polytask.data._tokenizers import tokenizers_library
from polytask.data.pretrained import PretrainedVocabulary
from polytask.data.vocabulary import Vocabulary, WordCodes
from polytask.errors import InputError
from polytask.shapes import Int, Tensor

__all__ = ["TEXT", "TextTransform", "as_table", "words_of"]

TEXT = "text"
"""Name of the column of texts that came in no table."""


def words_of(
    texts: Sequence[Any], who: str = "Texts", numbers: Sequence[int] | np.ndarray | None = None
) -> list[list[str]]:
    """The words of each text: split at spaces and around punctuation; those that are given stay as they are.

    Args:
        texts: Texts, or a list of words for each.
        who: For messages.
        numbers: For messages, the rows' numbers in the data; from 0 on if ``None``.

    Raises:
        InputError: If one has no word, or is neither a text nor a list of words; names the row.
        MissingExtraError: If ``tokenizers`` is not installed and a text must be split.

    Example:
        >>> words_of(["It's late.", ["New", "York"]])
        [['It', "'", 's', 'late', '.'], ['New', 'York']]
    """
    split = None
    rows = []
    for row, text in enumerate(texts):
        if isinstance(text, str):
            split = split or tokenizers_library().pre_tokenizers.BertPreTokenizer()
            words = [word for word, _ in split.pre_tokenize_str(text)]
        elif isinstance(text, list | tuple | np.ndarray):
            words = [str(word) for word in text]
        else:
            number = row if numbers is None else numbers[row]
            raise InputError(f"{who} need a text or a list of words in row {number}, got {text!r}.")
        if not words:
            number = row if numbers is None else numbers[row]
            raise InputError(f"{who} have no word in row {number}: leave empty texts out.")
        rows.append(words)
    return rows


def as_table(texts: Any) -> dict[str, list[str]]:
    """Texts as a table of one column, for models that read which words a text holds.

    Args:
        texts: Texts, or a list of words for each.

    Raises:
        InputError: If one has no word.

    Example:
        >>> as_table(["It's late."])
        {'text': ["It ' s late ."]}
    """
    return {TEXT: [" ".join(words) for words in words_of(_listed(texts))]}


class TextTransform:
    """How the texts of one source become tensors: a vocabulary, and so many words a row.

    Args:
        vocabulary: The codes; shared by the sources that one network reads.
        length: Words a row; learned by :meth:`fit`.
        column: The column of a table that holds the texts, where they come in one.
    """

    kind = "text"

    def __init__(self, vocabulary: WordCodes | None = None, length: int = 0, column: str | None = None):
        self.vocabulary: WordCodes = vocabulary or Vocabulary()
        self.length, self.column = length, column

    def fit(self, source: str, rows: Sequence[Sequence[str]], longest: int) -> TextTransform:
        """Learn the words, and the length of the longest row, at most ``longest``."""
        self.vocabulary.learn(source, rows)
        self.length = min(max(map(len, rows)), longest)
        return self

    def encode(self, rows: Sequence[Sequence[str]]) -> dict[str, Int[Tensor, "N L ..."]]:
        """Codes of rows of words."""
        return self.vocabulary.encode(rows, self.length)

    def transform(self, texts: Sequence[Any]) -> dict[str, Int[Tensor, "N L ..."]]:
        """Codes of texts, or of lists of words; of texts with more words than in training the first ones are read.

        Raises:
            InputError: If one has no word.
        """
        return self.encode(words_of(_listed(texts)))

    def lengths(self, texts: Sequence[Any]) -> Int[np.ndarray, " N"]:
        """Number of words that are read of each text."""
        return np.array([min(len(words), self.length) for words in words_of(_listed(texts))], dtype=np.int64)

    def state(self) -> dict[str, Any]:
        """As JSON can hold it."""
        column = {} if self.column is None else {"column": self.column}
        return {"kind": self.kind, "vocabulary": self.vocabulary.state(), "length": self.length, **column}

    def load_state(self, state: Mapping[str, Any]) -> TextTransform:
        """Take back what :meth:`state` gave."""
        if "tokenizer" in state["vocabulary"]:
            self.vocabulary = PretrainedVocabulary.from_state(state["vocabulary"])
        else:
            self.vocabulary = Vocabulary().load_state(state["vocabulary"])
        self.length, self.column = int(state["length"]), state.get("column")
        return self


def _listed(texts: Any) -> Sequence[Any]:
    if isinstance(texts, str):
        return [texts]
    try:
        return list(texts)
    except TypeError:
        raise InputError(f"Texts are read from a list of them, got {type(texts).__name__}.") from None
