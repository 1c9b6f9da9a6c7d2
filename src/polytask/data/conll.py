"""Sentences with a line a word and columns of tags: the files of the CoNLL tasks and of Universal Dependencies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polytask.errors import DataError, InputError

__all__ = ["Sentence", "read_conll"]


@dataclass(frozen=True)
class Sentence:
    """A sentence.

    Args:
        words: Its words.
        tags: By name, one tag a word, ``None`` where the file has ``_``.
        comments: What the lines with ``# key = value`` before it say.
    """

    words: list[str]
    tags: Mapping[str, list[str | None]]
    comments: Mapping[str, str] = field(default_factory=dict)


def read_conll(path: str | os.PathLike[str], columns: Mapping[str, int], word: int = 1) -> list[Sentence]:
    r"""Read a file of sentences, a line for each word, an empty line after each sentence.

    Lines of words written together (``1-2``) and of empty nodes (``1.1``) in CoNLL-U are passed over.

    Args:
        path: The file, UTF-8, columns between tabs.
        columns: Position from 0 of each tag's column, by the name it shall have.
        word: Position of the words' column.

    Raises:
        DataError: If there is no such file, or no sentence in it.
        InputError: If a line has too few columns, or the file is no UTF-8; names the line.

    Example:
        >>> import tempfile
        >>> lines = ["# sent_id = a-1", "1\tNew\tPROPN", "2\tYork\tPROPN", "", "1\tYes\tINTJ", ""]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "x.conllu").write_text("\n".join(lines))
        ...     found = read_conll(Path(folder) / "x.conllu", {"pos": 2})
        >>> found[0].words, found[0].tags["pos"], found[0].comments["sent_id"], len(found)
        (['New', 'York'], ['PROPN', 'PROPN'], 'a-1', 2)

    References:
        Universal Dependencies, CoNLL-U format; Buchholz and Marsi, CoNLL-X Shared Task, 2006.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"No file named {str(file)!r}.")
    try:
        # Lines end as files say, not as str.splitlines has it: a word may hold one of the other breaks of Unicode.
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no UTF-8: {error}.") from error
    needed = max([word, *columns.values()]) + 1
    found: list[Sentence] = []
    words: list[str] = []
    tags: dict[str, list[str | None]] = {name: [] for name in columns}
    comments: dict[str, str] = {}
    for number, line in enumerate([*lines, ""], start=1):
        if line.startswith("#") and not words:
            key, equals, value = line[1:].partition("=")
            if equals:
                comments[key.strip()] = value.strip()
        elif line.strip():
            cells = line.split("\t")
            if len(cells) < needed:
                raise InputError(f"{file}, line {number} needs {needed} columns between tabs, got {len(cells)}.")
            if cells[0].isdigit():
                words.append(cells[word])
                for name, column in columns.items():
                    tags[name].append(None if cells[column] == "_" else cells[column])
        elif words:
            found.append(Sentence(words, tags, comments))
            words, tags, comments = [], {name: [] for name in columns}, {}
    if not found:
        raise DataError(f"{file} holds no sentence.")
    return found
