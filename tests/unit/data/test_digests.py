"""Hashes of data: whatever decides a training changes them, and nothing else does."""

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.data import Vocabulary
from polytask.data.digests import digest_of
from polytask.tasks import Tagging
from polytask.training.answer_data import AnswerData
from polytask.training.data_sets import ArrayData
from polytask.training.text_data import TextData

pytest.importorskip("tokenizers")

TEXTS = [["a", "good", "day"], ["bad", "news"]]
TAGS = [["DET", "ADJ", "NOUN"], ["ADJ", "NOUN"]]
MOOD = ["+", "-"]


def hash_of(texts=TEXTS, tags=TAGS, mood=MOOD, columns=None, longest=200, **options) -> str:
    data = TextData("notes", texts, {"pos": tags, "mood": mood}, Vocabulary(**options), columns, longest)
    return data.describe()["sha256"]


def test_all_that_decides_a_training_on_texts_changes_the_hash():
    found = [
        hash_of(),
        hash_of(tags=[["DET", "ADJ", "VERB"], ["ADJ", "NOUN"]]),
        hash_of(tags=[["DET", "ADJ", None], ["ADJ", "NOUN"]]),
        hash_of(mood=["-", "+"]),
        hash_of(texts=TEXTS[::-1], tags=TAGS[::-1], mood=MOOD[::-1]),
        hash_of(texts=[["a", "good", "Day"], ["bad", "news"]]),
        hash_of(columns={"part": ["train", "test"]}),
        hash_of(longest=2),
        hash_of(fewest=1),
        hash_of(pieces_a_word=3),
    ]
    assert len(set(found)) == len(found)
    assert hash_of() == found[0]


def test_the_hash_of_texts_is_the_same_before_and_after_fitting():
    data = TextData("notes", TEXTS, {"pos": TAGS}, Vocabulary(fewest=1))
    before = data.describe()
    task = Tagging(name="pos")
    task.fit(data.labels(task))
    data.fit([task], np.arange(2), [])
    data.inputs_of(np.arange(2))
    assert data.describe() == before


def test_another_answer_is_other_data():
    one, other = (AnswerData("titles", TEXTS, [["day"], [word]], "title") for word in ("news", "bad"))
    assert one.describe()["sha256"] != other.describe()["sha256"]


def test_arrays_are_hashed_with_their_labels():
    x = np.arange(12.0).reshape(3, 4)

    def of(inputs, labels, **columns):
        return ArrayData("main", inputs, {"y": labels}, columns).describe()["sha256"]

    y = np.array([0.0, 1.0, np.nan])
    found = [of(x, y), of(x + 1e-9, y), of(x.astype(np.float32), y), of(x, np.array([0.0, 2.0, np.nan]))]
    found += [of({"a": x}, y), of({"b": x}, y), of(x, y, part=["a", "a", "b"]), of(x.reshape(3, 2, 2), y)]
    assert len(set(found)) == len(found)
    assert of(torch.from_numpy(x), y) == of(x, pd.Series(y)) == of(x, y)


def test_what_is_written_alike_is_not_hashed_alike():
    pairs = [(["ab"], ["a", "b"]), (1, "1"), (None, "None"), ([["a"], []], [[], ["a"]]), (1, 1.0), (True, 1)]
    for one, other in pairs:
        assert digest_of(one) != digest_of(other), (one, other)
    assert digest_of(np.array(["a", None], dtype=object)) == digest_of(["a", None])
    assert digest_of(torch.ones(2, dtype=torch.bfloat16)) == digest_of(np.ones(2, dtype=np.float32))
