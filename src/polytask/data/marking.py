"""Texts with marks: two texts as one, spans that a question is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.data.text import words_of
from polytask.errors import InputError

__all__ = ["between_marks", "marked", "paired"]

_BREAK = "[SEP]"


def paired(first: Sequence[Any], second: Sequence[Any]) -> list[list[str]]:
    """Pairs of texts as one text each, for questions about both: does one follow from the other, do they mean the same?

    Args:
        first: A text, or its list of words, for each row.
        second: The same for the second one.

    Raises:
        InputError: If the numbers of texts differ, or one has no word; names the row.

    Example:
        >>> paired(["It rains."], ["It is wet."])
        [['It', 'rains', '.', '[SEP]', 'It', 'is', 'wet', '.']]

    References:
        Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019, section 3 (the mark between).
    """
    if len(first) != len(second):
        raise InputError(f"Pairs need as many first texts as second ones, got {len(first)} and {len(second)}.")
    ours, theirs = words_of(first, "First texts"), words_of(second, "Second texts")
    return [[*a, _BREAK, *b] for a, b in zip(ours, theirs, strict=True)]


def marked(words: Sequence[str], *spans: tuple[int, int]) -> list[str]:
    """A text's words with marks around spans, for questions about them: how are these two related?

    Args:
        words: The words.
        *spans: Begin and end of each, the end not included; they do not overlap.

    Raises:
        InputError: If a span is empty or outside the text, or two overlap.

    Example:
        >>> marked(["Ann", "Lee", "lives", "in", "Rome"], (4, 5), (0, 2))
        ['[2', 'Ann', 'Lee', '2]', 'lives', 'in', '[1', 'Rome', '1]']

    References:
        Baldini Soares et al., Matching the Blanks: Distributional Similarity for Relation Learning, ACL 2019, section
        3.2 (entity markers).
    """
    before: dict[int, str] = {}
    after: dict[int, str] = {}
    taken: set[int] = set()
    for number, (begin, end) in enumerate(spans, start=1):
        if not 0 <= begin < end <= len(words):
            raise InputError(f"Span {number} is {begin} to {end}, and the text has the words 0 to {len(words) - 1}.")
        if taken & set(range(begin, end)):
            raise InputError(f"Span {number}, {begin} to {end}, overlaps one before it.")
        taken |= set(range(begin, end))
        before[begin], after[end - 1] = f"[{number}", f"{number}]"
    out: list[str] = []
    for place, word in enumerate(words):
        out += [before[place], word] if place in before else [word]
        out += [after[place]] if place in after else []
    return out


def between_marks(tags: Sequence[Any], *spans: tuple[int, int], mark: Any = None) -> list[Any]:
    """A tag for each word of the marked text: those of the words, and nothing for the marks.

    Args:
        tags: A tag for each word.
        *spans: The spans that :func:`marked` was given.
        mark: What a mark's tag is; ``None`` for not known, so that nothing is learned from it.

    Example:
        >>> between_marks(["B-AGENT", "O", "B-PLACE"], (1, 2))
        ['B-AGENT', None, 'O', None, 'B-PLACE']
    """
    places = [str(place) for place in range(len(tags))]
    known = set(places)
    return [tags[int(place)] if place in known else mark for place in marked(places, *spans)]
