import numpy as np
import pandas as pd
import pytest

from polytask.data.long import LongTable
from polytask.errors import DataError, TargetError, UnknownNameError


def pupils(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    frame["school"] = np.arange(n) % 3 + 1
    frame["score"] = frame["a"] + rng.normal(size=n)
    frame["passed"] = np.where(frame["score"] > 0, "yes", None)
    return frame


def test_each_value_has_a_column_with_its_own_labels_and_no_other():
    frame = pupils()
    table = LongTable(frame, "school", ["score"])
    assert table.names == ("a", "b", "passed", "school 1", "school 2", "school 3")
    made = np.column_stack([table.column(f"school {k}") for k in (1, 2, 3)])
    assert (np.isnan(made).sum(1) == 2).all()
    np.testing.assert_array_equal(np.nansum(made, 1), frame["score"])
    assert table.column("school 2").notna().tolist() == (frame["school"] == 2).tolist()


def test_inputs_are_those_of_the_table_underneath():
    frame = pupils()
    table = LongTable(frame, "school", ["score"])
    assert np.shares_memory(table.column("a").to_numpy(), frame["a"].to_numpy())


def test_several_targets_and_missing_labels():
    table = LongTable(pupils(), "school", ["score", "passed"])
    assert table.names[2:5] == ("score of school 1", "score of school 2", "score of school 3")
    assert table.target_of["passed of school 1"] == "passed"
    assert set(table.column("passed of school 1").dropna()) == {"yes"}


def test_names_say_what_a_value_is_of_only_where_it_does_not_say_so_itself():
    frame = pupils().assign(school=lambda f: f["school"].map({1: "Elm", 2: "Oak Street", 3: "a"}))
    assert LongTable(frame, "school", ["score"]).names[3:] == ("Elm", "Oak Street", "school a")


def test_numbers_are_in_the_order_of_numbers_and_one_value_however_written():
    frame = pd.DataFrame({"x": range(6), "k": ["10", "2", "2.0", "10", "1", "1"], "y": range(6)})
    assert LongTable(frame, "k", ["y"]).names == ("x", "k 1", "k 2", "k 10")


def test_values_with_few_labels_or_none_have_no_column():
    frame = pupils()
    frame.loc[frame["school"] == 3, "score"] = np.nan
    frame.loc[:1, "school"] = np.nan
    table = LongTable(frame, "school", ["score"], fewest=5)
    assert table.left_out == {"school 3": 0}
    assert table.column("school 1").iloc[:2].isna().all()


def test_what_cannot_be_used():
    with pytest.raises(UnknownNameError, match="Did you mean 'school'"):
        LongTable(pupils(), "schol", ["score"])
    with pytest.raises(TargetError, match="cannot be a target"):
        LongTable(pupils(), "score", ["score"])
    with pytest.raises(DataError, match="0 values with 100 labels or more"):
        LongTable(pupils(), "school", ["score"], fewest=100)
