import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.errors import RecipeError, TargetError
from polytask.trees.columns import read_columns
from polytask.trees.targets import explained, learn_code, mean_score


def code_of(Y, kinds=None, weight=None):
    columns = read_columns(Y)
    return columns, learn_code(columns, kinds, np.ones(len(columns.observed)) if weight is None else weight)


def test_kinds_are_inferred():
    _, code = code_of(
        {
            "float": [0.5, 1.0, 2.0],
            "count": [0, 1, 2],
            "zero_one": [0.0, 1.0, np.nan],
            "bool": [True, False, True],
            "two": ["x", "y", "x"],
            "three": ["x", "y", "z"],
        }
    )
    assert code.kinds == ["regression", "regression", "binary", "binary", "binary", "multiclass"]
    np.testing.assert_array_equal(code.owner, [0, 1, 2, 3, 4, 5, 5, 5])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.8]))
def test_each_task_has_unit_total_variance_over_observed_labels(seed, missing):
    rng = np.random.default_rng(seed)
    Y = np.c_[rng.normal(3, 50, size=40), rng.integers(0, 2, size=40), rng.integers(0, 4, size=40)].astype(float)
    Y[6:][rng.random((34, 3)) < missing] = np.nan
    Y[:4, 1:] = [[0, 0], [1, 1], [0, 2], [1, 3]]
    weight = rng.uniform(0.1, 2, size=40)
    columns, code = code_of(Y, ["regression", "binary", "multiclass"], weight)
    outputs = code.encode(columns)
    np.testing.assert_array_equal(np.isnan(outputs), np.isnan(Y)[:, code.owner])
    for task in range(3):
        block = outputs[:, code.owner == task]
        seen = ~np.isnan(block[:, 0])
        share = weight[seen] / weight[seen].sum()
        np.testing.assert_allclose(share @ block[seen], 0, atol=1e-12)
        np.testing.assert_allclose((share @ block[seen] ** 2).sum(), 1.0)
        np.testing.assert_array_equal(code.labels(code.means(outputs[seen]), task).round(9), Y[seen, task].round(9))


def test_a_constant_regression_stays_and_a_missing_mean_is_a_missing_label():
    columns, code = code_of(np.array([[0.1, 0.0], [0.1, 1.0], [0.1, 1.0]]))
    assert code.scale[0] == 1.0
    np.testing.assert_allclose(code.encode(columns)[:, 0], 0.0, atol=1e-15)
    labels = code.labels(np.array([[np.nan, np.nan], [1.0, 0.9]]), 1)
    np.testing.assert_array_equal(labels, [np.nan, 1.0])
    _, code = code_of({"a": ["x", "y"]})
    assert code.labels(np.array([[np.nan], [0.9]]), 0).tolist() == [None, "y"]


@pytest.mark.parametrize(
    ("Y", "kinds", "error", "message"),
    [
        ({"a": [np.nan, np.nan]}, None, TargetError, "no observed label"),
        ({"a": ["x", "x", None]}, None, TargetError, "only the class"),
        ({"a": [1.0, 1.0]}, ["binary"], TargetError, "only the class"),
        ({"a": [1, 2, 3]}, ["binary"], TargetError, "3 classes"),
        ({"a": ["x", "y"]}, ["regression"], TargetError, "text"),
        ({"a": [1.0, 2.0]}, ["ordinal"], RecipeError, "Known: regression"),
        ({"a": [1e300, -1e300]}, None, TargetError, "too large"),
    ],
)
def test_bad_targets(Y, kinds, error, message):
    with pytest.raises(error, match=message):
        code_of(Y, kinds)


def test_a_class_that_was_not_learned_is_refused():
    _, code = code_of({"a": ["x", "y"]})
    with pytest.raises(TargetError, match="none of its classes"):
        code.encode(read_columns({"a": ["x", "z"]}))


def test_explained_is_r2_and_brier_skill():
    from sklearn.metrics import brier_score_loss, r2_score

    rng = np.random.default_rng(0)
    true, guess, weight = rng.normal(size=(30, 3)), rng.normal(size=(30, 3)), rng.uniform(size=30)
    true[:, 1] = rng.integers(0, 2, size=30)
    guess[:, 1] = rng.uniform(size=30)
    true[:10, 0] = np.nan
    true[:, 2] = 4.0
    got = explained(true, guess, np.arange(3), weight)
    frequency = np.full(30, np.average(true[:, 1], weights=weight))
    skill = 1 - brier_score_loss(true[:, 1], guess[:, 1], sample_weight=weight) / brier_score_loss(
        true[:, 1], frequency, sample_weight=weight
    )
    np.testing.assert_allclose(got, [r2_score(true[10:, 0], guess[10:, 0], sample_weight=weight[10:]), skill, 0.0])
    assert np.isnan(explained(np.full((3, 1), np.nan), np.zeros((3, 1)), np.zeros(1, int), np.ones(3)))[0]


def test_mean_score_is_over_tasks_that_have_one():
    assert mean_score(np.array([0.5, np.nan, 1.0])) == 0.75
    assert mean_score(np.array([0.5, np.nan, 1.0]), np.array([3.0, 5.0, 1.0])) == 0.625
    assert np.isnan(mean_score(np.array([np.nan])))
