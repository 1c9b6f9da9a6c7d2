"""Words, and the pieces that they are made of, as codes."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from polytask.data._tokenizers import tokenizers_library
from polytask.errors import InputError
from polytask.shapes import Int, Tensor

__all__ = ["Vocabulary", "WordCodes"]

PADDING, UNKNOWN = 0, 1
_SUFFIX = "</w>"
_REPEATS = 50
"""A word counts at most so often when pieces are learned: the frequent ones are whole words anyway."""
_REMEMBERED = 200_000
"""Words whose pieces are remembered."""


class WordCodes(Protocol):
    """What gives words and their pieces codes: a :class:`Vocabulary`, or that of a model trained elsewhere."""

    options: dict[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the codes are made by, before anything is learned."""
        ...

    @property
    def n_words(self) -> int:
        """Codes of words, padding and unknown ones included."""
        ...

    @property
    def n_pieces(self) -> int:
        """Codes of pieces, padding included."""
        ...

    def learn(self, source: str, rows: Iterable[Sequence[str]]) -> None:
        """Learn from a source's training rows, if there is anything to learn."""
        ...

    def encode(self, rows: Sequence[Sequence[str]], length: int) -> dict[str, Int[Tensor, "N L ..."]]:
        """Codes ``words`` [N, L] and ``pieces`` [N, L, P], 0 where there is none."""
        ...

    def state(self) -> dict[str, Any]:
        """As JSON can hold it."""
        ...


class Vocabulary:
    """Codes of words and of pieces of words, learned from the training rows of one or several sources.

    A word that training knows well has a code of its own, in lower case; and every word, known or not, has the codes of
    the pieces that it is made of, as written. So an unknown word is not all unknown, and elements stay words: tags need
    no alignment.

    Args:
        n_words: Most words with a code of their own.
        fewest: How often a word must come to have one.
        n_pieces: Most pieces, but for single letters, which are always there.
        pieces_a_word: So many pieces of a word are read; of longer ones the first and the last.

    Raises:
        MissingExtraError: If ``tokenizers`` is not installed, when something is learned.

    Example:
        >>> vocabulary = Vocabulary(fewest=1)
        >>> vocabulary.learn("notes", [["a", "good", "day"], ["a", "bad", "day"]])
        >>> codes = vocabulary.encode([["a", "new", "day"]], length=4)
        >>> codes["words"].tolist(), codes["pieces"].shape
        ([[2, 1, 3, 0]], torch.Size([1, 4, 4]))

    Note:
        Pieces are learned by byte pair encoding, with a mark at the end of a word, so that endings are pieces of their
        own.

    References:
        Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units, ACL 2016, section 3.2.
        Bojanowski et al., Enriching Word Vectors with Subword Information, TACL 2017: a word beside its pieces.
    """

    def __init__(self, n_words: int = 20_000, fewest: int = 2, n_pieces: int = 4_000, pieces_a_word: int = 4):
        self.options = {"n_words": n_words, "fewest": fewest, "n_pieces": n_pieces, "pieces_a_word": pieces_a_word}
        self._counts: dict[str, Counter[str]] = {}
        self._words: tuple[str, ...] | None = None
        self._tokenizer: Any = None

    def learn(self, source: str, rows: Iterable[Sequence[str]]) -> None:
        """Count the words of a source's training rows; those of an earlier call for the same source are forgotten."""
        self._counts[source] = Counter(itertools.chain.from_iterable(rows))
        self._words = self._tokenizer = None
        for name in ("_code", "_pieces_of"):
            self.__dict__.pop(name, None)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its options."""
        return self.options

    @property
    def n_words(self) -> int:
        """Codes of words, padding and unknown ones included."""
        return len(self._settled()) + 2

    @property
    def n_pieces(self) -> int:
        """Codes of pieces, padding included."""
        self._settled()
        return int(self._tokenizer.get_vocab_size()) + 1

    def encode(self, rows: Sequence[Sequence[str]], length: int) -> dict[str, Int[Tensor, "N L ..."]]:
        """Codes ``words`` [N, L] and ``pieces`` [N, L, P], 0 where there is none; what is longer is cut off."""
        words = np.zeros((len(rows), length), dtype=np.int64)
        pieces = np.zeros((len(rows), length, self.options["pieces_a_word"]), dtype=np.int64)
        self._settled()
        for row, text in enumerate(rows):
            for position, word in enumerate(text[:length]):
                words[row, position] = self._code.get(word.lower(), UNKNOWN)
                codes = self._pieces_of_word(word)
                pieces[row, position, : len(codes)] = codes
        return {"words": torch.from_numpy(words), "pieces": torch.from_numpy(pieces)}

    def state(self) -> dict[str, Any]:
        """Options, words and pieces, as JSON can hold them."""
        return {"options": dict(self.options), "words": list(self._settled()), "pieces": self._tokenizer.to_str()}

    def load_state(self, state: Mapping[str, Any]) -> Vocabulary:
        """Take back what :meth:`state` gave."""
        self.__init__(**state["options"])  # type: ignore[misc]
        self._words = tuple(state["words"])
        self._tokenizer = tokenizers_library().Tokenizer.from_str(state["pieces"])
        return self

    def _settled(self) -> tuple[str, ...]:
        """The words with a code of their own; learned when they are first asked for, from all sources together."""
        if self._words is None:
            if not self._counts:
                raise InputError("The vocabulary has learned no words yet; call learn, or fit the data set.")
            together: Counter[str] = sum(self._counts.values(), Counter())
            lower: Counter[str] = Counter()
            for word, count in together.items():
                lower[word.lower()] += count
            ranked = sorted(lower.items(), key=lambda item: (-item[1], item[0]))
            kept = [word for word, count in ranked if count >= self.options["fewest"]]
            self._tokenizer = _learned_pieces(together, self.options["n_pieces"])
            self._words = tuple(kept[: self.options["n_words"]])
        return self._words

    @cached_property
    def _code(self) -> dict[str, int]:
        return {word: code for code, word in enumerate(self._settled(), start=2)}

    @cached_property
    def _pieces_of(self) -> dict[str, list[int]]:
        return {}

    def _pieces_of_word(self, word: str) -> list[int]:
        known = self._pieces_of.get(word)
        if known is None:
            codes = [code + 1 for code in self._tokenizer.encode(word).ids]
            most = self.options["pieces_a_word"]
            if len(codes) > most:  # endings say more than middles
                codes = [*codes[: most - most // 2], *codes[len(codes) - most // 2 :]]
            if len(self._pieces_of) >= _REMEMBERED:  # there is no end of rare words
                self._pieces_of.clear()
            known = self._pieces_of[word] = codes
        return known


def _learned_pieces(counts: Counter[str], n_pieces: int) -> Any:
    library = tokenizers_library()
    tokenizer = library.Tokenizer(library.models.BPE(unk_token="?", end_of_word_suffix=_SUFFIX))
    # Letters at the end of a word get their codes in an order that no seed decides, unless they have theirs before; and
    # on the codes depends which of two equally frequent pairs is joined first.
    letters = sorted({word[-1] + _SUFFIX for word in counts if word})
    trainer = library.trainers.BpeTrainer(
        vocab_size=n_pieces, special_tokens=["?", *letters], end_of_word_suffix=_SUFFIX, show_progress=False
    )
    ordered = sorted(counts.items())
    texts = (word for word, count in ordered for _ in range(min(count, _REPEATS)))
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())
    learned["added_tokens"] = learned["added_tokens"][:1]  # in a text, letters are nothing special
    return library.Tokenizer.from_str(json.dumps(learned))
