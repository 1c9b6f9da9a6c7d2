"""Texts as a data set of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from polytask.data.batch import ArraySource
from polytask.data.digests import digest_of
from polytask.data.text import TextTransform, words_of
from polytask.data.vocabulary import WordCodes
from polytask.errors import TargetError
from polytask.models.inputs import Field, InputShape
from polytask.models.views import View
from polytask.shapes import Tensor, object_array
from polytask.tasks.task import Task
from polytask.training.data_sets import ArrayData

__all__ = ["TextData", "tags_beside_words", "word_fields"]


class TextData(ArrayData):
    """Texts, and labels of whole texts and of their words.

    Args:
        name: The source's name.
        texts: A text for each row, or its list of words.
        labels: Labels by task name, ``[N]``; of tasks of elements a sequence of tags a row, as many as words.
        vocabulary: The codes of words; one object for all sources that one network reads.
        columns: Values by name to split by: groups, times.
        longest: So many words of a text are read.

    Raises:
        DataError: If labels or columns have another number of rows.
        InputError: If a text has no word.

    Example:
        >>> data = TextData("notes", ["a good day", "bad"], {"mood": ["+", "-"], "pos": ["DET ADJ NOUN", "ADJ"]})
        >>> len(data), data.label_names
        (2, ('mood', 'pos'))
    """

    def __init__(
        self,
        name: str,
        texts: Sequence[Any],
        labels: Mapping[str, Any],
        vocabulary: WordCodes | None = None,
        columns: Mapping[str, Any] | None = None,
        longest: int = 200,
    ):
        self.longest = longest
        self.texts = words_of(texts, f"Texts of {name!r}")
        super().__init__(name, self.texts, {task: _one_a_row(values) for task, values in labels.items()}, columns)
        self.text: TextTransform = TextTransform(vocabulary)

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Learn words, pieces, and how long a row is."""
        self.text.fit(self.name, [self.texts[row] for row in rows], self.longest)
        cut = sum(len(self.texts[row]) > self.text.length for row in rows)
        if cut:
            notes.append(f"{cut} training texts of {self.name!r} are read up to word {self.text.length} only.")

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """The words as codes."""
        return ArraySource(self.name, self.text.encode([self.texts[row] for row in rows]))

    def source(self, tasks: Sequence[Task], rows: np.ndarray, unknown: list[str] | None = None) -> ArraySource:
        """The given rows, tags beside their words.

        Raises:
            TargetError: If a row has another number of tags than of words.
        """
        made = super().source(tasks, rows, unknown)
        return tags_beside_words(made, tasks, self.elements, lambda task: self._check_lengths(task, rows))

    def shape(self) -> InputShape:
        """Fields ``words`` and ``pieces``."""
        return word_fields(self.text)

    def view(self, task: Task) -> View | None:
        """All words are read."""
        return None

    def describe(self) -> dict[str, Any]:
        """Size, and a hash of texts, labels, columns and what codes are made by; the same before and after fitting."""
        decides = (self.texts, self._labels, self.columns, self.longest, self.text.vocabulary.settings)
        return {"path": None, "rows": len(self), "columns": ["text"], "inputs": None, "sha256": digest_of(*decides)}

    def elements(self, task: Task) -> int:
        """Number of elements of a row that the task answers for."""
        return self.text.length

    def _check_lengths(self, task: Task, rows: np.ndarray) -> None:
        for row in rows:
            value = self._labels[task.name][row]
            n_tags = len(value.split()) if isinstance(value, str) else len(value) if isinstance(value, list) else 0
            if n_tags and n_tags != len(self.texts[row]):
                raise TargetError(
                    f"{task.who} has {n_tags} tags in row {row} of {self.name!r}, whose text has "
                    f"{len(self.texts[row])} words: {' '.join(self.texts[row][:8])!r}... Give the text as its list of "
                    "words where tags were made for them."
                )


def word_fields(text: TextTransform) -> InputShape:
    """Fields ``words`` and ``pieces`` of texts that are encoded so."""
    words = text.vocabulary
    n_pieces = words.options["pieces_a_word"]
    return InputShape(
        {
            "words": Field((text.length,), (words.n_words,)),
            "pieces": Field((text.length, n_pieces), (words.n_pieces,)),
        }
    )


def tags_beside_words(
    made: ArraySource, tasks: Sequence[Task], elements: Callable[[Task], int], check: Callable[[Task], None]
) -> ArraySource:
    """The source with the labels of tasks of elements checked, and cut or padded to as many elements as rows have."""
    targets, observed = dict(made.targets), dict(made.observed)
    for task in tasks:
        if task.of_elements and task.name in targets and observed[task.name].ndim > 1:
            check(task)
            targets[task.name] = _as_wide(targets[task.name], elements(task))
            observed[task.name] = _as_wide(observed[task.name], elements(task))
    return replace(made, targets=targets, observed=observed)


def _one_a_row(values: Any) -> np.ndarray:
    """One object a row, also where rows are sequences of one length."""
    return object_array([list(v) if isinstance(v, tuple | np.ndarray) else v for v in values])


def _as_wide(tensor: Tensor, length: int) -> Tensor:
    """The tensor cut off, or padded with zeros, to this many elements."""
    return torch.nn.functional.pad(tensor[:, :length], (0, max(length - tensor.shape[1], 0)))
