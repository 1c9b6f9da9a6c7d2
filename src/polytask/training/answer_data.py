"""Texts with answers that are texts, as a data set of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polytask.data.answers import AnswerTransform
from polytask.data.batch import ArraySource
from polytask.data.text import words_of
from polytask.data.vocabulary import WordCodes
from polytask.errors import DataError
from polytask.models.inputs import Field, InputShape
from polytask.shapes import object_array
from polytask.tasks.task import Task
from polytask.training.text_data import TextData

__all__ = ["AnswerData"]


class AnswerData(TextData):
    """Texts whose answers are texts, such as headlines, summaries or translations.

    The task is of the kind ``tagging``: at each place of the answer, the next word. Its encoder is ``seq2seq``, and
    whole answers are written by :func:`polytask.bundle.generation.generate`.

    Args:
        name: The source's name.
        texts: A text for each row, or its list of words.
        answers: An answer for each row, or its list of words.
        task: Name of the task that learns them.
        vocabulary: The codes of the texts' words; one object for all sources that one network reads.
        columns: Values by name to split by: groups, times.
        longest: So many words of a text are read, and of an answer written.

    Raises:
        DataError: If the numbers of texts and answers differ.
        InputError: If a text or an answer has no word.

    Example:
        >>> data = AnswerData("titles", ["a long story of a cat"], ["cat story"], "title")
        >>> data.label_names
        ('title',)
    """

    def __init__(
        self,
        name: str,
        texts: Sequence[Any],
        answers: Sequence[Any],
        task: str,
        vocabulary: WordCodes | None = None,
        columns: Mapping[str, Any] | None = None,
        longest: int = 200,
    ):
        if len(texts) != len(answers):
            raise DataError(
                f"Source {name!r} has {len(texts)} texts and {len(answers)} answers: give one answer a text."
            )
        self.answers = words_of(answers, f"Answers of {name!r}")
        super().__init__(name, texts, {task: self.answers}, vocabulary, columns, longest)
        self.task = task
        self.text: AnswerTransform = AnswerTransform(vocabulary)

    def fit(self, tasks: Sequence[Task], rows: np.ndarray, notes: list[str]) -> None:
        """Learn words, pieces, and how long texts and answers are."""
        super().fit(tasks, rows, notes)
        self._learn(rows)

    def labels(self, task: Task, rows: np.ndarray | None = None) -> np.ndarray:
        """The next word at each place of the answers."""
        if not self.text.written:  # asked for before the rows are divided: whatever words there are
            self._learn(np.arange(len(self)))
        asked = range(len(self)) if rows is None else rows
        return object_array([self.text.next_words(self.answers[row]) for row in asked])

    def inputs_of(self, rows: np.ndarray) -> ArraySource:
        """Codes of the words, and of the answer's words before each place."""
        made = self.text.encode([self.texts[row] for row in rows])
        return ArraySource(self.name, {**made, "prefix": self.text.prefix([self.answers[row] for row in rows])})

    def shape(self) -> InputShape:
        """Fields ``words``, ``pieces`` and ``prefix``."""
        fields = dict(super().shape().fields)
        return InputShape({**fields, "prefix": Field((self.text.answer_length + 1,), (self.text.n_codes,))})

    def _learn(self, rows: np.ndarray) -> None:
        self.text.learn_answers([self.answers[row] for row in rows], self.longest)

    def elements(self, task: Task) -> int:
        """Places of an answer."""
        return self.text.answer_length + 1

    def _check_lengths(self, task: Task, rows: np.ndarray) -> None:
        """Nothing to check: labels are made from the answers, so there is one for each place."""
