"""Sentences made up from a small grammar, with tags of their words: what a treebank is like, without a text."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["made_up_reviews", "made_up_sentences"]

_SYLLABLES = ("ba", "do", "ki", "lu", "me", "no", "pa", "ri", "su", "ta", "ve", "zo")
_ENDINGS = {"NOUN": ("tion", "ness", "er"), "VERB": ("ed", "ing", "s"), "ADJ": ("ful", "ous", "ic")}
_CLOSED = {
    "DET": ("the", "a", "this", "every"),
    "ADP": ("in", "near", "from", "with"),
    "PRON": ("she", "they", "it"),
    "PUNCT": (".", "!"),
}
_SHAPES = {
    "report": (("DET", "ADJ", "NOUN", "VERB", "ADP", "PLACE", "PUNCT"), ("PERSON", "VERB", "ADP", "PLACE", "PUNCT")),
    "letter": (("PRON", "VERB", "DET", "NOUN", "PUNCT"), ("PRON", "VERB", "PERSON", "ADP", "DET", "NOUN", "PUNCT")),
}
_PRAISE, _BLAME = ("fine", "lovely", "great"), ("dull", "awful", "weak")


def made_up_sentences(n: int = 600, *, seed: int = 0) -> list[dict[str, Any]]:
    """Make sentences with parts of speech, names of persons and places, and a genre.

    Stems are drawn anew for each seed; endings tell parts of speech of open classes and capital letters names, so that
    a word never seen in training can still be tagged by its pieces and neighbours.

    Args:
        n: Number of sentences.
        seed: Of everything drawn.

    Returns:
        A dict for each: ``words``, ``pos`` and ``ner`` (a tag a word, ``B-PER``, ``I-PER``, ``B-LOC``, ``O``), and
        ``genre``.

    Example:
        >>> made = made_up_sentences(2)
        >>> all(len(row["words"]) == len(row["pos"]) == len(row["ner"]) for row in made)
        True
    """
    generator = np.random.default_rng(seed)
    stems = ["".join(generator.choice(_SYLLABLES, generator.integers(1, 4))) for _ in range(120)]
    rows = []
    for _ in range(n):
        genre = str(generator.choice(list(_SHAPES)))
        shapes = _SHAPES[genre]
        words: list[str] = []
        pos: list[str] = []
        ner: list[str] = []
        for slot in shapes[generator.integers(len(shapes))]:
            if slot in ("PERSON", "PLACE"):
                sort = "PER" if slot == "PERSON" else "LOC"
                for part in range(1 + int(sort == "PER" and generator.random() < 0.5)):
                    ending = "son" if sort == "PER" else "ville"
                    words.append((str(generator.choice(stems)) + ending).capitalize())
                    pos.append("PROPN")
                    ner.append(f"{'I' if part else 'B'}-{sort}")
                continue
            known = _CLOSED.get(slot)
            open_word = str(generator.choice(stems)) + str(generator.choice(_ENDINGS.get(slot, ("",))))
            words.append(str(generator.choice(known)) if known else open_word)
            pos.append(slot)
            ner.append("O")
        rows.append({"words": words, "pos": pos, "ner": ner, "genre": genre})
    return rows


def made_up_reviews(n: int = 600, *, seed: int = 0) -> list[tuple[list[str], str]]:
    """Make sentences that praise or blame: words, and ``pos`` or ``neg``; a ``not`` turns the meaning round.

    Example:
        >>> sorted({feeling for _, feeling in made_up_reviews(50)})
        ['neg', 'pos']
    """
    generator = np.random.default_rng(seed + 1)
    found = []
    for row in made_up_sentences(n, seed=seed):
        is_good, is_turned = generator.random() < 0.5, generator.random() < 0.3
        word = str(generator.choice(_PRAISE if is_good != is_turned else _BLAME))
        said = ["it", "was", *(["not"] if is_turned else []), word]
        found.append(([*row["words"][:-1], ",", *said], "pos" if is_good else "neg"))
    return found
