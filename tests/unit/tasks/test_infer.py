import numpy as np
import pandas as pd
import pytest

from polytask.errors import TargetError, UnknownNameError
from polytask.tasks.infer import explain_kind, infer_kind, make_tasks


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([True, False, True], "binary"),
        ([0, 1, 1], "binary"),
        ([1.5, 2.5, 1.5], "binary"),
        (["a", "b", None], "binary"),
        ([0.0, 1.0, np.nan], "binary"),
        (["a", "b", "c", "a"], "multiclass"),
        (["a", "b", "", "c"], "multiclass"),
        (list(range(10)), "multiclass"),
        ([0.0, 1.0, 2.0, np.nan], "multiclass"),
        (list(range(11)), "regression"),
        ([1.5, 2.0, 3.0], "regression"),
        (np.arange(30).astype(np.uint8), "regression"),
        (pd.Series(["x", "y", "z"], dtype="category"), "multiclass"),
        (pd.Series(range(30)).astype("category"), "multiclass"),
        (pd.Series(pd.Categorical(["lo", "hi", "mid"], ["lo", "mid", "hi"], ordered=True)), "ordinal"),
        (pd.Categorical(["lo", "hi"], ["lo", "hi"], ordered=True), "binary"),
        (pd.array([1, 2, None, 3], dtype="Int64"), "multiclass"),
    ],
)
def test_rules(labels, kind):
    assert infer_kind(labels, "t") == kind
    assert explain_kind(labels, "t")[0] == kind


def test_reasons_say_what_was_seen():
    assert explain_kind(list(range(11)), "t")[1] == "whole numbers with 11 different values, more than 10"
    few = "whole numbers with 3 different values, at most 10"
    assert explain_kind([0, 1, 2], "t")[1] == f"{few}; if they count something, say t:count"
    assert explain_kind([-1, 0, 1], "t")[1] == few
    assert explain_kind([0.5, 1, 2], "t")[1] == "numbers with fractions, 3 different values"


@pytest.mark.parametrize("labels", [[None, np.nan], [1, 1, None], ["", ""]])
def test_nothing_to_learn(labels):
    with pytest.raises(TargetError, match=r"Target 't'.*nothing to learn"):
        infer_kind(labels, "t")


def test_identifiers_are_no_classes():
    with pytest.raises(TargetError, match=r"'t'.*identifiers"):
        infer_kind([f"customer {i}" for i in range(50)], "t")
    assert infer_kind(["a", "b", "c"], "t") == "multiclass"


def test_tasks_for_a_frame_with_overrides():
    frame = pd.DataFrame(
        {
            "ill": [0, 1, 0],
            "stage": pd.Categorical(["I", "II", "III"], ["I", "II", "III"], ordered=True),
            "visits": [0, 4, 2],
            "cost": [1.5, 2.5, 9.0],
        }
    )
    tasks, reasons = make_tasks(frame, {"visits": "count", "cost": {"transform": "log"}, "ill": {"positive": 0}})
    assert [task.kind for task in tasks] == ["binary", "ordinal", "count", "regression"]
    assert tasks[1].order == ("I", "II", "III")
    assert tasks[3].transform == "log"
    assert reasons["visits"] == "as asked"
    assert "fractions" in reasons["cost"]
    for task in tasks:
        task.fit(np.asarray(frame[task.target]))


def test_overrides_are_checked():
    with pytest.raises(TargetError, match=r"no target 'b'.*'a'"):
        make_tasks({"a": [0, 1]}, {"b": "count"})
    with pytest.raises(UnknownNameError):
        make_tasks({"a": [0, 1]}, {"a": "cuont"})
