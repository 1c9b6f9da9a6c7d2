"""Tasks of pixels, of words and of whole arrays are opened as those of columns are, before any row is divided."""

import numpy as np
import pytest

from polytask import Recipe
from polytask.study import Protocol
from polytask.study.opening import open_question
from polytask.training.data_sets import ArrayData

RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 3, 8, 8)).astype(np.float32)
MASKS = RNG.integers(0, 3, (12, 8, 8))
ROWS_OF_MASKS = np.empty(12, dtype=object)
ROWS_OF_MASKS[:] = [*list(MASKS)[:-2], None, None]
BOXES = np.empty(12, dtype=object)
BOXES[:] = [[{"class": "cat", "box": [1, 1, 4 + i % 2, 4]}] for i in range(10)] + [None, None]
DEPTH = RNG.random((12, 8, 8))
DEPTH[-2:] = np.nan
SOUND = RNG.random((12, 4, 5))
SOUND[-2:] = np.nan


@pytest.mark.parametrize(
    ("labels", "task", "n_labels", "classes"),
    [
        (MASKS, {"kind": "segmentation"}, 12, (0, 1, 2)),
        (ROWS_OF_MASKS, {"kind": "segmentation"}, 10, (0, 1, 2)),
        (DEPTH, {"kind": "dense_regression"}, 10, None),
        (BOXES, {"kind": "detection", "size": [8, 8]}, 10, ("cat",)),
        (SOUND, {"kind": "synthesis"}, 10, None),
    ],
)
def test_labels_that_are_arrays_are_counted_by_rows_and_in_every_fold(labels, task, n_labels, classes):
    data = ArrayData("images", IMAGES, {"where": labels, "y": IMAGES.mean((1, 2, 3))})
    question = open_question(Recipe(tasks={"where": task, "y": "regression"}, data={"images": {}}), data)
    assert question.observed["where"].tolist() == [True] * n_labels + [False] * (12 - n_labels)
    if classes is not None:  # a fold may lack one of them, which is part of the question all the same
        assert question.tasks[0].classes == classes
    splits = [split for _, _, split in Protocol(folds=3).splits(question.data, question.tasks)]
    assert sorted(np.concatenate([split.test for split in splits]).tolist()) == list(range(12))
    seen = [int(question.observed["where"][split.test].sum()) for split in splits]
    assert max(seen) - min(seen) <= 1


def test_labels_of_sequences_divide_by_whether_a_row_has_them():
    from polytask.training.text_data import TextData

    tags = [["N", "V"], ["N"], None, ["V"], None, ["N", "N"]] * 4
    texts = [["a"] * len(row or ["N"]) for row in tags]
    data = TextData("notes", texts, {"pos": tags})
    question = open_question(Recipe(tasks={"pos": "tagging"}, data={"notes": {}}), data)
    assert question.tasks[0].tags == ("N", "V")
    for _, _, split in Protocol(folds=4).splits(data, question.tasks):
        assert question.observed["pos"][split.test].sum() == 4
