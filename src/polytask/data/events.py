"""Events in two questions: which words tell of one, and for each of them, who and what take part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from polytask.data.marking import between_marks, marked
from polytask.data.text import words_of
from polytask.errors import InputError
from polytask.tasks._spans import spans_of
from polytask.wording import counted

__all__ = ["Event", "event_rows", "find_events"]


@dataclass(frozen=True)
class Event:
    """One event of a sentence.

    Args:
        trigger: Begin and end of the words that tell of it, the end not included.
        kind: What sort of event.
        arguments: ``(begin, end, role)`` of each who takes part.
    """

    trigger: tuple[int, int]
    kind: str
    arguments: tuple[tuple[int, int, str], ...] = ()


def event_rows(sentences: Sequence[Sequence[str]], events: Sequence[Sequence[Event]]) -> dict[str, Any]:
    """Labels of both questions: tags of triggers, and a row for each event whose arguments are asked.

    Args:
        sentences: Words of each.
        events: Those of each sentence.

    Returns:
        ``triggers``, a sequence of tags for each sentence; and for each event ``texts``, its sentence with the trigger
        marked, and ``roles``, the tags of its words.

    Raises:
        InputError: If the numbers differ, or a span is outside its sentence, or overlaps another of its event.

    Example:
        >>> made = event_rows([["Ann", "left", "Rome"]], [[Event((1, 2), "move", ((0, 1, "who"), (2, 3, "from")))]])
        >>> made["triggers"], made["texts"]
        ([['O', 'B-move', 'O']], [['Ann', '[1', 'left', '1]', 'Rome']])
        >>> made["roles"]
        [['B-who', None, 'O', None, 'B-from']]
    """
    if len(sentences) != len(events):
        raise InputError(
            f"Each sentence needs its list of events, got {counted(len(sentences), 'sentence')} and "
            f"{counted(len(events), 'list')}."
        )
    triggers = []
    texts: list[list[str]] = []
    roles: list[list[Any]] = []
    for row, (words, told) in enumerate(zip(sentences, events, strict=True)):
        triggers.append(_tags(row, len(words), [(*event.trigger, event.kind) for event in told]))
        for event in told:
            texts.append(marked(words, event.trigger))
            roles.append(between_marks(_tags(row, len(words), event.arguments), event.trigger))
    return {"triggers": triggers, "texts": texts, "roles": roles}


def find_events(
    tag: Callable[[str, list[list[str]]], Sequence[Sequence[str]]], texts: Sequence[Any]
) -> list[list[Event]]:
    """The events of new texts: triggers first, then the arguments of each trigger that was found.

    Args:
        tag: Gives the tags of texts for ``"triggers"``, and of marked texts for ``"roles"``; with a bundle
            ``lambda task, texts: bundle.predict(texts, [task], source=...)[task].values``.
        texts: Texts, or their lists of words.

    Example:
        >>> def tag(task, texts):
        ...     known = {"Ann": "B-who", "left": "B-move"} if task == "triggers" else {"Ann": "B-who"}
        ...     return [[known.get(w, "O") if task == "roles" or w == "left" else "O" for w in t] for t in texts]
        >>> find_events(tag, ["Ann left Rome"])
        [[Event(trigger=(1, 2), kind='move', arguments=((0, 1, 'who'),))]]
    """
    sentences = words_of(texts)
    found = [sorted(spans_of(tags)) for tags in tag("triggers", sentences)]
    asked = [(row, (begin, end), kind) for row, spans in enumerate(found) for begin, end, kind in spans]
    rows = [marked(sentences[row], trigger) for row, trigger, _ in asked]
    answers = tag("roles", rows) if rows else []
    events: list[list[Event]] = [[] for _ in sentences]
    for (row, trigger, kind), tags in zip(asked, answers, strict=True):
        # The two marks are words of the marked text, and none of the sentence's.
        own = [t for place, t in enumerate(tags) if place not in (trigger[0], trigger[1] + 1)]
        events[row].append(Event(trigger, kind, tuple(sorted(spans_of(own)))))
    return events


def _tags(row: int, n_words: int, spans: Sequence[tuple[int, int, str]]) -> list[str]:
    tags = ["O"] * n_words
    for begin, end, sort in spans:
        if not 0 <= begin < end <= n_words:
            raise InputError(
                f"Sentence {row}: a span of {sort!r} is {begin} to {end}, and there are {counted(n_words, 'word')}. "
                "A span is the positions of its first word and of the one after its last, from 0."
            )
        if any(tag != "O" for tag in tags[begin:end]):
            raise InputError(
                f"Sentence {row}: a span of {sort!r}, {begin} to {end}, overlaps another one. Leave one of them out."
            )
        tags[begin:end] = [f"B-{sort}", *[f"I-{sort}"] * (end - begin - 1)]
    return tags
