"""What a study does not judge is said by name before any row is divided."""

import numpy as np
import pytest

from polytask import Study
from polytask.errors import RecipeError
from polytask.training.data_sets import ArrayData

RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 3, 8, 8)).astype(np.float32)
MASKS = RNG.integers(0, 2, (12, 8, 8))
ROWS_OF_MASKS = np.empty(12, dtype=object)
ROWS_OF_MASKS[:] = list(MASKS)
BOXES = np.empty(12, dtype=object)
BOXES[:] = [[{"class": "cat", "box": [1, 1, 4, 4]}] for _ in range(12)]


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (MASKS, {"kind": "segmentation"}),
        (ROWS_OF_MASKS, {"kind": "segmentation"}),
        (RNG.random((12, 8, 8)), {"kind": "dense_regression"}),
        (BOXES, {"kind": "detection", "size": [8, 8]}),
    ],
)
def test_tasks_of_pixels_are_refused_by_name(labels, task):
    data = ArrayData("images", IMAGES, {"where": labels, "y": IMAGES.mean((1, 2, 3))})
    with pytest.raises(RecipeError, match=rf"tasks of pixels yet: 'where' \({task['kind']}\)\. Leave them out"):
        Study(data, {"where": task, "y": "regression"}, arms=["joint"]).run()


def test_tasks_of_whole_arrays_are_refused_by_name():
    data = ArrayData("images", IMAGES, {"sound": RNG.random((12, 4, 5)), "y": IMAGES.mean((1, 2, 3))})
    with pytest.raises(RecipeError, match=r"tasks of whole arrays yet: 'sound' \(synthesis\)\. Leave them out"):
        Study(data, {"sound": "synthesis", "y": "regression"}, arms=["joint"]).run()
