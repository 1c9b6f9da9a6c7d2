"""Texts whose answer is a text: what is written so far goes in, the next word is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from polytask.data.text import TextTransform
from polytask.data.vocabulary import WordCodes
from polytask.shapes import Int, Tensor

__all__ = ["END", "AnswerTransform"]

END = "</s>"
"""The word after the last one of an answer."""
_BEGIN, _UNKNOWN = 1, 2


class AnswerTransform(TextTransform):
    """Words of texts as codes, and the beginnings of answers as codes of their own words.

    Args:
        vocabulary: The codes of the texts' words.
        length: Words of a text; learned.
        n_written: Most words that an answer may be made of.

    Example:
        >>> transform = AnswerTransform()
        >>> transform.learn_answers([["a", "b", "a"], ["a"]], longest=9)
        >>> transform.prefix([["a", "b"], []]).tolist()
        [[1, 3, 4, 0], [1, 0, 0, 0]]
        >>> transform.next_words(["b", "z"])
        ['b', None, '</s>']
    """

    kind = "answers"

    def __init__(self, vocabulary: WordCodes | None = None, length: int = 0, n_written: int = 5000):
        super().__init__(vocabulary, length)
        self.n_written = n_written
        self.written: tuple[str, ...] = ()
        self.answer_length = 0

    def learn_answers(self, answers: Sequence[Sequence[str]], longest: int) -> None:
        """Learn the words of answers, by their frequency, and how long an answer is at most."""
        counts = Counter(word for answer in answers for word in answer)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        self.written = tuple(word for word, _ in ranked[: self.n_written])
        self.answer_length = min(max(map(len, answers)), longest)

    @property
    def n_codes(self) -> int:
        """Codes of answers' words: none, begin, unknown, and the known ones."""
        return len(self.written) + 3

    def prefix(self, answers: Sequence[Sequence[str]]) -> Int[Tensor, "N T"]:
        """Codes of what stands before each place of the answers, the one after the last word included."""
        code = {word: number for number, word in enumerate(self.written, start=3)}
        codes = np.zeros((len(answers), self.answer_length + 1), dtype=np.int64)
        for row, answer in enumerate(answers):
            known = [code.get(word, _UNKNOWN) for word in answer[: self.answer_length]]
            codes[row, : len(known) + 1] = [_BEGIN, *known]
        return torch.from_numpy(codes)

    def next_words(self, answer: Sequence[str]) -> list[str | None]:
        """What is to be said at each place; nothing is learned where the word is an unknown one.

        An answer that is cut off has no end.
        """
        known = set(self.written)
        said = [word if word in known else None for word in answer[: self.answer_length]]
        return [*said, END if len(answer) <= self.answer_length else None]

    def transform(self, texts: Sequence[Any]) -> dict[str, Int[Tensor, "N L ..."]]:
        """Codes of texts, before the first word of their answers."""
        codes = super().transform(texts)
        return {**codes, "prefix": self.prefix([[]] * len(codes["words"]))}

    def lengths(self, texts: Sequence[Any]) -> Int[np.ndarray, " N"]:
        """One place each, the first word; for whole answers see :func:`polytask.bundle.generation.generate`."""
        return np.ones(1 if isinstance(texts, str) else len(texts), dtype=np.int64)

    def state(self) -> dict[str, Any]:
        """As JSON can hold it."""
        own = {"n_written": self.n_written, "written": list(self.written), "answer_length": self.answer_length}
        return {**super().state(), **own}

    def load_state(self, state: Mapping[str, Any]) -> AnswerTransform:
        """Take back what :meth:`state` gave."""
        super().load_state(state)
        self.n_written, self.answer_length = int(state["n_written"]), int(state["answer_length"])
        self.written = tuple(state["written"])
        return self
