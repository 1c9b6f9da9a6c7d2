"""Two texts as one, marks around spans, and events as two questions."""

import pytest

from polytask.data import Event, between_marks, event_rows, find_events, marked, paired
from polytask.errors import InputError

WORDS = ["Ann", "Lee", "left", "Rome", "for", "Oslo"]


def test_marks_go_around_the_spans_and_tags_stay_at_their_words():
    spans = ((3, 4), (0, 2), (5, 6))
    text = marked(WORDS, *spans)
    assert " ".join(text) == "[2 Ann Lee 2] left [1 Rome 1] for [3 Oslo 3]"
    tags = between_marks(list("abcdef"), *spans, mark="-")
    assert [tag for word, tag in zip(text, tags, strict=True) if word in WORDS] == list("abcdef")
    assert tags.count("-") == 6
    assert marked(WORDS) == WORDS
    assert marked(WORDS, (0, 6))[::7] == ["[1", "1]"]


def test_spans_that_cannot_be_are_named():
    for span in ((2, 2), (-1, 2), (4, 7)):
        with pytest.raises(InputError, match="Span 1 is"):
            marked(WORDS, span)
    with pytest.raises(InputError, match="Span 2, 1 to 3, overlaps"):
        marked(WORDS, (0, 2), (1, 3))
    with pytest.raises(InputError, match="2 and 1"):
        paired(["a", "b"], ["c"])
    with pytest.raises(InputError, match="Second texts have no word in row 1"):
        paired(["a", "b"], ["c", ""])


MOVE = Event((2, 3), "move", ((0, 2, "who"), (3, 4, "from"), (5, 6, "to")))


def test_events_come_back_from_their_rows():
    events = [[MOVE], [], [Event((0, 1), "rest"), Event((2, 3), "move", ((1, 2, "who"),))]]
    sentences = [WORDS, ["Nothing", "happened"], ["Sleep", "Ann", "leave"]]
    made = event_rows(sentences, events)
    assert made["triggers"] == [["O", "O", "B-move", "O", "O", "O"], ["O", "O"], ["B-rest", "O", "B-move"]]
    assert len(made["texts"]) == 3
    known = {tuple(text): ["O" if tag is None else tag for tag in roles]
             for text, roles in zip(made["texts"], made["roles"], strict=True)}  # fmt: skip

    def tag(task, texts):
        return made["triggers"] if task == "triggers" else [known[tuple(text)] for text in texts]

    assert find_events(tag, sentences) == events
    assert find_events(lambda task, texts: [["O"] * len(text) for text in texts], sentences) == [[], [], []]


def test_events_that_cannot_be_are_named():
    with pytest.raises(InputError, match="got 1 sentence and 2 lists"):
        event_rows([WORDS], [[], []])
    with pytest.raises(InputError, match="Sentence 0: a span of 'from' is 5 to 9, and there are 6 words"):
        event_rows([WORDS], [[Event((2, 3), "move", ((5, 9, "from"),))]])
    with pytest.raises(InputError, match="'to', 3 to 5, overlaps"):
        event_rows([WORDS], [[Event((2, 3), "move", ((3, 4, "from"), (3, 5, "to")))]])
