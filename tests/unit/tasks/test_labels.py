"""What users have in their label columns, for the kinds with classes and the kinds with numbers."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.errors import NonFiniteError, RecipeError, TargetError, UnknownNameError
from polytask.shapes import object_array
from polytask.tasks import (
    Binary,
    Count,
    DenseRegression,
    Detection,
    Metric,
    Multiclass,
    Multilabel,
    Ordinal,
    Prediction,
    Quantile,
    Regression,
    Synthesis,
    Tagging,
    Task,
    registry,
    task_from_options,
)


def column(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


MISSING = [
    column("a", None, "b"),
    column("a", np.nan, "b"),
    column("a", pd.NA, "b"),
    column("a", "", "b"),
    column("a", "  ", "b"),
    np.array(["a", "", "b"]),
    np.asarray(pd.Series(["a", None, "b"])),
    np.asarray(pd.Series(["a", None, "b"], dtype="string")),
    np.asarray(pd.Series(["a", None, "b"], dtype="category")),
    column(True, None, False),
    np.asarray(pd.array([1, None, 0], dtype="Int64")),
    np.asarray(pd.array([True, None, False], dtype="boolean")),
    np.array([1.0, np.nan, 0.0]),
    np.array([1.0, np.nan, 0.0], dtype=np.float32),
    np.array([[1.0], [np.nan], [0.0]]),
]


@pytest.mark.parametrize("labels", MISSING, ids=range(len(MISSING)))
def test_missing_in_every_disguise(labels):
    task = Binary(name="t")
    task.fit(labels)
    targets, observed = task.encode(labels)
    assert observed.tolist() == [True, False, True]
    assert np.isfinite(targets).all()


@pytest.mark.parametrize(
    "labels", [column(1.5, None, 3), column(1.5, pd.NA, 3), column("1.5", "", "3"), column(1.5, np.nan, True)]
)
def test_missing_numbers_in_every_disguise(labels):
    task = Regression(name="t")
    task.fit(labels)
    assert task.encode(labels)[1].tolist() == [True, False, True]


@pytest.mark.parametrize(
    "labels",
    [["b", "a", "c"], [3, 1, 2], [2.5, 0.5, 1.0], np.array([3, 1, 2], np.uint8), [10**25, 1, 2], column(1, "a", "b")],
    ids=["text", "int", "float", "uint8", "huge", "mixed"],
)
def test_classes_keep_their_python_type_through_json(labels):
    task = Multiclass(name="t")
    array = labels if isinstance(labels, np.ndarray) else np.array(labels)
    task.fit(array)
    again = Multiclass(name="t")
    again.load_state(json.loads(json.dumps(task.state())))
    answer = again.decode(10 * torch.eye(3))
    python = array.tolist()
    assert sorted(answer.values.tolist(), key=str) == sorted(python, key=str)
    assert {type(v) for v in answer.values.tolist()} == {type(v) for v in python}
    assert {type(v) for v in answer.labels} == {type(v) for v in python}


def test_booleans_come_back_as_booleans():
    task = Binary(name="t")
    task.fit(np.array([True, False]))
    answer = task.decode(torch.tensor([[3.0], [-3.0]]))
    assert answer.values.dtype == bool
    assert answer.values.tolist() == [True, False]
    assert list(answer.columns("t")) == ["t", "P(t=False)", "P(t=True)"]


def test_whole_floats_are_the_classes_that_the_integers_were():
    """A column of integers with missing labels is one of floats; one from another file may be of integers."""
    task = Multiclass(name="t")
    task.fit(np.array([0.0, 1.0, 2.0, np.nan]))
    assert task.encode(np.array([2, 0]))[0].tolist() == [2, 0]


@pytest.mark.parametrize("make", [Binary, Multiclass, Regression, Count, Ordinal, Multilabel, Quantile])
def test_nothing_to_learn_is_said_with_the_task_and_the_column(make):
    with pytest.raises(TargetError, match=r"Task 't' \(column price\).*missing"):
        make(name="t", target="price").fit(np.array([np.nan, np.nan]))
    with pytest.raises(TargetError, match=r"Task 't' \(column price\).*(one class|one value)"):
        make(name="t", target="price").fit(np.array([1.0, np.nan, 1.0]))


def test_an_unseen_class_is_named_with_the_known_ones():
    for task in (Binary(name="t"), Multiclass(name="t")):
        task.fit(column("cat", "dog", None))
        with pytest.raises(TargetError, match=r"Task 't' knows no class 'cow' \(row 2\).*'cat', 'dog'"):
            task.encode(column("cat", None, "cow"))


def test_known_classes_are_not_all_listed_if_there_are_many():
    task = Multiclass(name="t")
    task.fit(np.arange(1000))
    with pytest.raises(TargetError, match=r"0, 1, 2.*1000 in all") as error:
        task.encode(np.array([-1]))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("make", [Regression, Count, Quantile])
def test_text_where_numbers_are_is_named_with_its_row(make):
    with pytest.raises(TargetError, match=r"'t' needs numbers as labels, got 'n/a' in row 2"):
        make(name="t").fit(column(1, 2.0, "n/a", "x"))
    with pytest.raises(TargetError, match=r"got 'nan' in row 0"):
        make(name="t").fit(column("nan", "2", "3"))


@pytest.mark.parametrize("make", [Binary, Multiclass, Regression, Count, Ordinal, Multilabel, Quantile])
def test_infinity_and_dates_are_refused(make):
    with pytest.raises(TargetError, match=r"'t' needs finite.*-?inf in row 1"):
        make(name="t").fit(np.array([1.0, np.inf, 0.0]))
    with pytest.raises(TargetError, match=r"datetime64"):
        make(name="t").fit(np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"))
    with pytest.raises(TargetError, match=r"'t' needs"):
        make(name="t").fit(column((1, 2), (3, 4), None))


def test_two_columns_are_for_multilabel_tasks_only():
    with pytest.raises(TargetError, match=r"one column of labels, got an array of shape \(3, 2\)"):
        Binary(name="t").fit(np.zeros((3, 2)))


def test_counts_are_whole_and_not_negative():
    for bad in (-1, 2.5):
        with pytest.raises(TargetError, match=rf"counts .* got {bad} in row 1"):
            Count(name="t").fit(np.array([3, bad, 1]))


def test_binary_needs_exactly_two_classes():
    with pytest.raises(TargetError, match=r"needs two classes, got 3: 1, 2, 3.*multiclass"):
        Binary(name="t").fit(np.array([1, 2, 3]))


def test_positive_is_the_class_of_the_probability():
    task = Binary(name="t", positive="ill")
    task.fit(column("well", "ill", "well"))
    assert task.encode(column("ill", "well"))[0].tolist() == [1, 0]
    assert task.decode(torch.tensor([[5.0]])).values.tolist() == ["ill"]
    assert task.initial_bias().item() == pytest.approx(np.log(1 / 2))
    with pytest.raises(TargetError, match=r"no class 'sick'.*'ill', 'well'"):
        Binary(name="t", positive="sick").fit(column("well", "ill"))


def test_given_classes_may_lack_labels_and_may_not_lack_a_class():
    task = Multiclass(name="t", classes=("c", "a", "b"))
    task.fit(column("a", "b", "a"))
    assert task.n_outputs == 3
    assert task.encode(column("c"))[0].tolist() == [0]
    assert task.initial_bias().isfinite().all()
    with pytest.raises(TargetError, match=r"knows no class 'z'"):
        Multiclass(name="t", classes=("a", "b")).fit(column("a", "b", "z"))
    with pytest.raises(TargetError, match=r"two different classes"):
        Multiclass(name="t", classes=("a", "a"))


def test_the_order_of_text_is_not_guessed():
    with pytest.raises(TargetError, match=r"'low'.*order="):
        Ordinal(name="t").fit(column("low", "high"))
    task = Ordinal(name="t", order=("low", "mid", "high"))
    task.fit(column("high", "low"))
    assert task.encode(column("high", "mid", "low"))[0].tolist() == [2, 1, 0]
    assert task.n_outputs == 2


@pytest.mark.parametrize("make", [Binary, Multiclass, Ordinal])
def test_class_weights_are_checked(make):
    labels = np.array([0, 1, 1])
    with pytest.raises(TargetError, match=r"class weight for 7. Known: 0, 1"):
        make(name="t", class_weight={7: 1.0}).fit(labels)
    with pytest.raises(TargetError, match=r"at least 0"):
        make(name="t", class_weight={0: -1.0}).fit(labels)
    with pytest.raises(TargetError, match=r"'balanced'"):
        make(name="t", class_weight="equal").fit(labels)


def test_class_weights_keep_the_type_of_their_keys_through_json():
    for rule in ({1: 2.0, 0: 1.0}, {True: 2.0}, {"a": 3.0}, "balanced", None):
        options = json.loads(json.dumps(Binary(name="t", class_weight=rule).options()))
        assert task_from_options(options).class_weight == rule


def test_settings_are_checked_when_the_task_is_made():
    for make in (
        lambda: Regression(name="t", objective="cubic"),
        lambda: Regression(name="t", scaling="none"),
        lambda: Regression(name="t", transform="sqrt"),
        lambda: Quantile(name="t", quantiles=(0.5, 0.1)),
        lambda: Quantile(name="t", quantiles=(0.0, 0.5)),
        lambda: Quantile(name="t", quantiles=()),
        lambda: Binary(name="t", label_smoothing=1.0),
        lambda: Multilabel(name="t", class_weight={0: 1}),
        lambda: Binary(name=""),
        lambda: Binary(name="t", weight=-1.0),
    ):
        with pytest.raises(TargetError):
            make()
    with pytest.raises(UnknownNameError, match=r"regression"):
        task_from_options({"kind": "regresion", "name": "t"})
    with pytest.raises(RecipeError, match=r"objective"):
        task_from_options({"kind": "regression", "name": "t", "objectiv": "squared"})


@pytest.mark.parametrize(("transform", "bad"), [("log", 0.0), ("log1p", -1.0)])
def test_labels_outside_the_transform_s_domain_are_refused_also_later(transform, bad):
    task = Regression(name="t", transform=transform)
    with pytest.raises(TargetError, match=f"transform '{transform}'.* got {bad}"):
        task.fit(np.array([1.0, bad, 3.0]))
    task.fit(np.array([1.0, 2.0, 3.0]))
    with pytest.raises(TargetError, match=f"transform '{transform}'"):
        task.encode(np.array([bad]))
    assert task.encode(np.array([np.nan]))[1].tolist() == [False]


def test_a_label_that_float32_cannot_hold_is_refused():
    task = Regression(name="t")
    task.fit(np.array([1.0, 2.0]))
    with pytest.raises(TargetError, match=r"row 1.*unit"):
        task.encode(np.array([1.0, 1e30]))


def test_robust_scale_falls_back_on_the_deviation_if_the_quartiles_are_equal():
    labels = np.array([0.0] * 20 + [10.0])
    task = Regression(name="t", scaling="robust")
    task.fit(labels)
    assert task.scaler_.scale == pytest.approx(labels.std())


def test_multilabel_takes_0_1_and_booleans_only():
    task = Multilabel(name="t", target=("a", "b"))
    with pytest.raises(TargetError, match=r"got 2 in row 1, label 'a'"):
        task.fit(np.array([[0, 1], [2, 1]]))
    with pytest.raises(TargetError, match=r"got inf in row 1, label 'b'"):
        task.fit(np.array([[0, 1], [1, math.inf]]))
    with pytest.raises(TargetError, match=r"shape \[N, 2\], got \(2, 3\)"):
        task.fit(np.zeros((2, 3)))
    task.fit(np.array([[True, False], [False, True]]))
    assert task.decode(torch.randn(3, 2)).values.dtype == bool
    with pytest.raises(TargetError, match=r"shape \[N, 2\]"):
        task.encode(np.zeros((2, 3)))


def test_multilabel_keeps_labels_with_one_value_only():
    task = Multilabel(name="t", target=("rare", "usual"), class_weight="balanced")
    task.fit(np.array([[0, 1], [0, 0], [0, np.nan]]))
    assert task.initial_bias().isfinite().all()
    assert task.initial_bias()[0].item() == pytest.approx(np.log(1 / 4))
    assert task.label_losses(torch.zeros(1, 2), torch.tensor([[1.0, 1.0]])).isfinite().all()


def test_multilabel_from_one_array_numbers_its_labels():
    task = Multilabel(name="tags")
    task.fit(np.array([[0, 1, 1], [1, 0, 1]]))
    answer = task.decode(torch.tensor([[1.0, -1.0, 1.0]]))
    assert answer.labels == (0, 1, 2)
    assert list(answer.columns("tags")) == ["tags[0]", "tags[1]", "tags[2]", "P(tags=0)", "P(tags=1)", "P(tags=2)"]


@pytest.mark.parametrize("kind", registry.names())
def test_answers_from_nan_are_refused(kind):
    task = registry.create(kind, name="t")
    task.fit(np.array([0, 1, 1, 0]))
    outputs = torch.zeros(3, task.n_outputs)
    outputs[1, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"'t' .* 1 of 3 rows \(the first is row 1\)"):
        task.decode(outputs)


def test_the_fast_path_and_the_selection_give_the_same_losses():
    task = Multilabel(name="t", target=("a", "b"))
    task.fit(np.array([[0, 1], [1, 0]]))
    z, y = torch.randn(4, 2), torch.tensor([[0.0, 1], [1, 1], [0, 0], [1, 0]])
    all_of_them = torch.ones(4, 2, dtype=torch.bool)
    some = all_of_them.clone()
    some[3, 1] = False
    assert torch.equal(task.loss(z, y, all_of_them)[:-1], task.loss(z, y, some))


def test_tasks_keep_their_common_options():
    task = Binary(name="t", target=["col"], weight=2.0, source="s", inputs=["a", "b"])
    again = task_from_options(json.loads(json.dumps(task.options())))
    assert again == task
    assert again.targets == ("col",)
    assert again.inputs == ("a", "b")


def test_public_names():
    assert issubclass(Binary, Task)
    assert Metric("mae", higher_is_better=False).baseline_free
    assert Prediction(np.zeros(2)).columns("t").keys() == {"t"}


def test_arrays_take_the_probabilities_of_several_answers_a_row_along():
    task = Multilabel(name="t", target=("p", "q"))
    task.fit(np.array([[0, 1], [1, 0], [1, 1]]))
    answer = task.decode(torch.tensor([[0.0, 2.0], [-1.0, 0.5]]))
    arrays = answer.arrays("t")
    assert arrays.keys() == {"t", "P(t=p)", "P(t=q)"}
    assert np.array_equal(arrays["t"], answer.values)
    assert np.array_equal(np.stack([arrays["P(t=p)"], arrays["P(t=q)"]], 1), answer.probabilities)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("C", r"knows no class 'C' \(row 2, element 1\)\. Known from training: 'A', 'B'"),
        (1j, r"got complex 1j in row 2, element 1"),
        (math.inf, r"got inf in row 2, element 1"),
    ],
)
def test_a_tag_that_cannot_be_used_is_named_by_its_row_and_its_place(bad, message):
    task, rows = Tagging(name="t"), object_array([["A", "B"], None, ["B", bad, "A"]])
    task.fit(rows[:2])
    with pytest.raises(TargetError, match=message):
        task.encode(rows)
    with pytest.raises(TargetError, match=message):
        Tagging(name="t", tags=("A", "B")).fit(rows)


@pytest.mark.parametrize(("task", "labels", "message"), [
    (DenseRegression(name="t"), [None, [[1.0, 2.0], [3.0, math.inf]]], r"got inf in row 1, place 1, 1"),
    (Synthesis(name="t"), [[0.0, 1.0], [2.0, math.inf], None], r"got inf in row 1, place 1"),
    (Detection(name="t", size=(9, 9)), [[], [("a", 0, 0, 2, 2), (math.inf, 1, 1, 2, 2)]], r"got inf in row 1"),
], ids=["maps", "arrays", "boxes"])  # fmt: skip
def test_a_number_among_those_of_a_row_is_named_by_the_row(task, labels, message):
    with pytest.raises(TargetError, match=message):
        task.fit(object_array(labels))
