"""The pieces of words that a language model trained elsewhere knows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from polytask.data._tokenizers import tokenizers_library
from polytask.errors import DataError
from polytask.shapes import Int, Tensor

__all__ = ["PretrainedVocabulary"]

_HERE = 2
"""The code of every word that is there: a word is known by its pieces alone."""


class PretrainedVocabulary:
    """Words as the pieces of a model's own tokenizer, read from the model's folder; nothing is learned.

    Goes with the encoder ``pretrained``: elements stay words, each of which has a few pieces, so that tags need no
    alignment.

    Args:
        folder: A folder with ``tokenizer.json``, as ``transformers`` models are saved with.
        pieces_a_word: So many pieces of a word are read; further ones are cut off.

    Raises:
        DataError: If the folder has no such file, or it cannot be read.
        MissingExtraError: If ``tokenizers`` is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], pieces_a_word: int = 4):
        file = Path(folder) / "tokenizer.json"
        if not file.is_file():
            raise DataError(
                f"{folder} has no tokenizer.json; give the folder of a model saved with its fast tokenizer."
            )
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read: {error}") from error
        self._take(text, pieces_a_word, str(file))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Take back what :meth:`state` gave; the folder is not needed any more."""
        made = cls.__new__(cls)
        made._take(state["tokenizer"], state["options"]["pieces_a_word"], "the bundle's tokenizer")
        return made

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its options and the tokenizer."""
        return self.state()

    @property
    def n_words(self) -> int:
        """Codes of words: none, unknown, there."""
        return _HERE + 1

    @property
    def n_pieces(self) -> int:
        """Codes of pieces, padding included."""
        return int(self._tokenizer.get_vocab_size()) + 1

    def learn(self, source: str, rows: Iterable[Sequence[str]]) -> None:
        """Nothing: the pieces are given."""

    def encode(self, rows: Sequence[Sequence[str]], length: int) -> dict[str, Int[Tensor, "N L ..."]]:
        """Codes ``words`` [N, L] and ``pieces`` [N, L, P]: the tokenizer's numbers plus one, 0 where there is none."""
        n = self.options["pieces_a_word"]
        words = np.zeros((len(rows), length), dtype=np.int64)
        pieces = np.zeros((len(rows), length, n), dtype=np.int64)
        cut = [list(row[:length]) for row in rows]
        for row, found in enumerate(self._tokenizer.encode_batch(cut, is_pretokenized=True, add_special_tokens=False)):
            words[row, : len(cut[row])] = _HERE
            filled = [0] * len(cut[row])
            for code, word in zip(found.ids, found.word_ids, strict=True):
                if word is not None and filled[word] < n:
                    pieces[row, word, filled[word]] = code + 1
                    filled[word] += 1
            for word, count in enumerate(filled):
                if not count:  # a word that the tokenizer drops is an unknown one, so that it still has a place
                    pieces[row, word, 0] = self._unknown + 1
        return {"words": torch.from_numpy(words), "pieces": torch.from_numpy(pieces)}

    def state(self) -> dict[str, Any]:
        """Options and the tokenizer, as JSON can hold them."""
        return {"options": dict(self.options), "tokenizer": self._tokenizer.to_str()}

    def _take(self, tokenizer: str, pieces_a_word: int, origin: str) -> None:
        library = tokenizers_library()
        try:
            self._tokenizer = library.Tokenizer.from_str(tokenizer)
        except Exception as error:  # the library raises the bare class
            raise DataError(f"{origin} cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        unknown = [self._tokenizer.token_to_id(name) for name in ("[UNK]", "<unk>", "<|endoftext|>")]
        self._unknown = next((code for code in unknown if code is not None), 0)
        self.options = {"pieces_a_word": pieces_a_word}
