"""A column of free text as the words that it holds."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["WordsColumn"]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MOST = 500
_FEWEST = 3
_COMMON = 0.95
"""A word in a larger share of the texts says nothing."""


@dataclass(frozen=True)
class WordsColumn:
    """A column of free text as bits: which of the known words it holds, in lower case; all zeros where it is missing.

    Known are the words that most training texts hold, but for those that nearly all or fewer than three hold.

    Args:
        name: The column.
        bits: The known words.

    Example:
        >>> texts = pd.Series(["A fine day.", "Fine, fine!", "No day at all", "a day", "fine"])
        >>> column = WordsColumn.fit("note", texts)
        >>> bits = np.zeros((2, 2), dtype=np.float32)
        >>> column.encode(pd.Series(["Another FINE one", None]), bits)
        >>> column.bits, bits.tolist()
        (('day', 'fine'), [[0.0, 1.0], [0.0, 0.0]])

    Note:
        Order and number of the words are lost. Where they matter, give texts as
        :class:`~polytask.training.text_data.TextData` to an encoder of words.

    References:
        Salton and McGill, Introduction to Modern Information Retrieval, 1983, chapter 4 (binary vectors of words).
    """

    name: str
    bits: tuple[str, ...]

    @classmethod
    def fit(cls, name: str, values: pd.Series[Any]) -> WordsColumn:
        """Learn the words from the training rows."""
        texts = [_words(value) for value in values.dropna()]
        counts = Counter(word for words in texts for word in words)
        kept = [(n, word) for word, n in counts.items() if _FEWEST <= n < max(_COMMON * len(texts), _FEWEST + 1)]
        frequent = sorted(kept, key=lambda pair: (-pair[0], pair[1]))[:_MOST]
        return cls(name, tuple(sorted(word for _, word in frequent)))

    def encode(self, values: pd.Series[Any], out: np.ndarray) -> None:
        """Write the bits into ``out``, ``[N, len(bits)]``."""
        place = {word: j for j, word in enumerate(self.bits)}
        out[:] = 0
        for row, value in enumerate(values):
            if not pd.isna(value):
                out[row, [place[word] for word in _words(value) if word in place]] = 1

    def state(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {**asdict(self), "kind": "words", "bits": list(self.bits)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> WordsColumn:
        """Take back what :meth:`state` gave."""
        return cls(state["name"], tuple(state["bits"]))


def _words(text: Any) -> set[str]:
    return set(_WORD.findall(str(text).lower()))
