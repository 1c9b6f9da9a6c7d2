import numpy as np
import pandas as pd
import polars as pl
import pytest

from polytask.errors import RecipeError, TargetError
from polytask.trees.columns import by_task, read_columns


def test_every_form_reads_the_same_labels():
    matrix = np.array([[1.0, 0.5], [np.nan, 1.5], [3.0, np.nan]])
    forms = {
        "matrix": matrix,
        "mapping": {"a": matrix[:, 0], "b": [0.5, 1.5, None]},
        "frame": pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": matrix[:, 1]}),
    }
    for form, given in forms.items():
        columns = read_columns(given)
        assert columns.form == form
        np.testing.assert_array_equal(columns.observed, ~np.isnan(matrix))
        for position in range(2):
            seen = columns.observed[:, position]
            np.testing.assert_array_equal(columns.labels[position][seen].astype(float), matrix[seen, position])


def test_a_polars_frame_and_a_list_with_none():
    columns = read_columns(pl.DataFrame({"a": [1.0, None, 2.0], "b": ["x", "y", None]}))
    np.testing.assert_array_equal(columns.observed, [[1, 1], [0, 1], [1, 0]])
    columns = read_columns([["x", 1.0], [None, 2.0], ["y", None]])
    assert columns.labels[0].dtype.kind == "U"
    assert columns.labels[1].dtype.kind == "f"
    np.testing.assert_array_equal(columns.observed, [[1, 1], [0, 1], [1, 0]])


def test_pick_reorders_and_refuses_other_tasks():
    columns = read_columns({"a": [1.0, 2.0], "b": [3.0, 4.0]}).pick(["b", "a"])
    np.testing.assert_array_equal(columns.labels[0], [3.0, 4.0])
    with pytest.raises(TargetError, match="as in training"):
        columns.pick(["a", "c"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no target column"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "different lengths"),
        ({"a": [1.0, np.inf]}, "infinite"),
        ({"a": np.array([1.0, float("inf"), None], dtype=object)}, "infinite"),
        ({"a": np.array([1.0, "x"], dtype=object)}, "mixes types"),
        ({"a": np.array(["2020-01-01"], dtype="datetime64[ns]")}, "datetime64"),
        (np.zeros((2, 2, 2)), "3 dimensions"),
        (np.array(1.0), "0 dimensions"),
    ],
)
def test_bad_columns(given, message):
    with pytest.raises(TargetError, match=message):
        read_columns(given)


def test_by_task():
    assert by_task("kinds", None, ["a", "b"], 1) == [1, 1]
    assert by_task("kinds", {"b": 3}, ["a", "b"], 1) == [1, 3]
    assert by_task("kinds", [5, 6], ["a", "b"], 1) == [5, 6]
    for wrong in ({"c": 1}, [1], "ab", 3):
        with pytest.raises(RecipeError, match="kinds"):
            by_task("kinds", wrong, ["a", "b"], 1)
