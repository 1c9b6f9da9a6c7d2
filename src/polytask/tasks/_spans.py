"""Spans of elements that tags mark, as named entities are marked."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["is_bio", "span_scores", "spans_of"]


def is_bio(tags: Sequence[object]) -> bool:
    """Whether all tags are ``O``, or ``B-`` and ``I-`` before the name of a sort, and some begins a span.

    Example:
        >>> is_bio(["O", "B-LOC", "I-LOC"]), is_bio(["NOUN", "O"])
        (True, False)
    """
    texts = [str(tag) for tag in tags]
    return all(t == "O" or t[:2] in ("B-", "I-") for t in texts) and any(t.startswith("B-") for t in texts)


def spans_of(tags: Sequence[object]) -> set[tuple[int, int, str]]:
    """The spans ``(start, end, sort)`` that a sequence of tags marks, ``end`` not included.

    ``I-X`` that follows no span of X begins one, as in the CoNLL evaluation script.

    Example:
        >>> sorted(spans_of(["B-LOC", "I-LOC", "O", "I-PER", "B-PER"]))
        [(0, 2, 'LOC'), (3, 4, 'PER'), (4, 5, 'PER')]

    References:
        Ramshaw and Marcus, Text Chunking using Transformation-Based Learning, 1995; Tjong Kim Sang and De Meulder,
        Introduction to the CoNLL-2003 Shared Task, 2003, section 2.3 (a span counts if its ends and sort are right).
    """
    found = set()
    start, sort = 0, ""
    for position, tag in enumerate([*map(str, tags), "O"]):
        mark, _, name = tag.partition("-")
        if sort and (mark != "I" or name != sort):
            found.add((start, position, sort))
            sort = ""
        if mark in ("B", "I") and not sort:
            start, sort = position, name
    return found


def span_scores(truth: Sequence[Sequence[object]], answers: Sequence[Sequence[object]]) -> float:
    """F1 of the spans of all rows together; NaN if there is no span anywhere.

    Example:
        >>> span_scores([["B-X", "O", "B-Y"]], [["B-X", "O", "O"]])
        0.6666666666666666
    """
    right = wanted = given = 0
    for row, answer in zip(truth, answers, strict=True):
        mine, theirs = spans_of(row), spans_of(answer)
        right += len(mine & theirs)
        wanted += len(mine)
        given += len(theirs)
    return 2 * right / (wanted + given) if wanted + given else float("nan")
