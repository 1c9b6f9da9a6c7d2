import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from polytask.errors import InputError, RecipeError, TargetError, UnknownNameError
from polytask.trees import JointForest, JointForestCV, registry

SMALL = {"n_estimators": 15, "random_state": 0}
# A forest draws bags and thresholds, so a row of weight 2 is not the same draw as a row that stands there twice;
# scikit-learn's own forests except themselves from this check for the same reason.
EXPECTED_FAILURES = {"check_sample_weight_equivalence_on_dense_data": "weights and repeated rows draw other bags"}


@parametrize_with_checks(
    [
        JointForest(n_estimators=5),
        JointForest(n_estimators=5, bootstrap=False, splits="best"),
        JointForestCV(n_estimators=5, leaves=(1, 3), features=(1.0,), splits=("random",)),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def table(seed=0, n=120, missing=0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    size = X[:, 0] + 0.5 * X[:, 1] + 0.1 * rng.normal(size=n)
    Y = {
        "size": np.where(rng.random(n) < missing, np.nan, size),
        "is_big": np.where(rng.random(n) < missing, np.nan, (size > 0).astype(float)),
        "form": np.where(rng.random(n) < missing, None, np.array(["a", "b", "c"])[np.digitize(size, [-0.5, 0.5])]),
    }
    return X, Y


@pytest.mark.parametrize("missing", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("fill", ["oob", "mean"])
def test_mixed_kinds_with_missing_labels_are_learned(missing, fill):
    X, Y = table(n=600, missing=missing)
    forest = JointForest(missing=fill, **SMALL).fit(X, Y)
    assert forest.kinds_ == ["regression", "binary", "multiclass"]
    X2, Y2 = table(1, n=300, missing=0.0)
    predicted, chances = forest.predict(X2), forest.predict_proba(X2)
    assert np.isfinite(predicted["size"]).all()
    assert set(predicted["form"]) <= {"a", "b", "c"}
    assert list(chances) == ["is_big", "form"]
    for name, chance in chances.items():
        np.testing.assert_allclose(chance.sum(axis=1), 1.0)
        assert (chance >= 0).all()
        np.testing.assert_array_equal(
            forest.classes_[forest.tasks_.index(name)][chance.argmax(axis=1)], predicted[name]
        )
    assert (forest.task_scores(X2, Y2) > 0.3).all()
    assert forest.task_importances_[:, :2].sum(axis=1).min() > 0.55
    np.testing.assert_allclose(forest.task_importances_.sum(axis=1), 1.0)
    np.testing.assert_allclose(forest.feature_importances_.sum(), 1.0)


def test_out_of_bag_scores_are_those_of_new_rows():
    X, Y = table(n=1500, missing=0.5)
    forest = JointForest(n_estimators=60, random_state=0).fit(X, Y)
    X2, Y2 = table(1, n=1500, missing=0.0)
    np.testing.assert_allclose(forest.oob_task_scores_, forest.task_scores(X2, Y2), atol=0.05)


@pytest.mark.parametrize("missing", [0.5, 0.9])
@pytest.mark.parametrize("is_shared", [False, True])
def test_noise_scores_nothing_out_of_bag(missing, is_shared):
    """Stand-ins must not carry the labels of out-of-bag rows into their own predictions."""
    scores = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(300, 5)), rng.normal(size=(300, 6))
        Y = 0.3 * Y + rng.normal(size=(300, 1)) if is_shared else Y
        Y[rng.random(Y.shape) < missing] = np.nan
        scores.append(JointForest(n_estimators=30, random_state=seed).fit(X, Y).oob_score_)
    assert -0.3 < np.mean(scores) < 0.0


def test_answers_take_the_form_of_the_targets():
    X, Y = table()
    frame = pd.DataFrame(Y, index=range(5, 125))
    by_name = JointForest(**SMALL).fit(X, Y).predict(X)
    by_frame = JointForest(**SMALL).fit(X, frame).predict(X)
    assert isinstance(by_frame, pd.DataFrame)
    np.testing.assert_array_equal(by_frame["size"], by_name["size"])
    matrix = np.column_stack([Y["size"], Y["is_big"]])
    forest = JointForest(**SMALL).fit(X, matrix)
    assert forest.predict(X).shape == (120, 2)
    assert forest.predict(X).dtype == float
    assert list(forest.predict_proba(X)) == [1]
    objects = JointForest(**SMALL).fit(X, frame.to_numpy(dtype=object))
    assert objects.predict(X).dtype == object
    vector = JointForest(**SMALL).fit(X, Y["form"])
    assert vector.predict(X).shape == (120,)
    assert vector.predict_proba(X).shape == (120, 3)
    assert vector.oob_prediction_.shape == (120,)
    np.testing.assert_allclose(vector.oob_proba_.sum(axis=1), 1.0)


@settings(max_examples=8, deadline=None)
@given(st.permutations([0, 1, 2]), st.sampled_from([0.0, 0.6]))
def test_the_order_of_the_tasks_does_not_matter(order, missing):
    X, Y = table(missing=missing)
    shuffled = {list(Y)[place]: Y[list(Y)[place]] for place in order}
    options = {"n_estimators": 40, "random_state": 0, "min_samples_leaf": 5}
    first, second = JointForest(**options).fit(X, Y), JointForest(**options).fit(X, shuffled)
    # Sums in another order differ in the last bit, which may turn a tie between splits in single trees.
    np.testing.assert_allclose(first.predict(X)["size"], second.predict(X)["size"], atol=0.1)
    np.testing.assert_allclose(
        first.task_scores(X, Y), second.task_scores(X, Y)[[order.index(t) for t in range(3)]], atol=0.02
    )


def test_a_task_of_weight_zero_does_not_shape_the_trees_but_is_predicted():
    X, Y = table(missing=0.0)
    noise = np.random.default_rng(5).normal(size=len(X))
    options = {**SMALL, "min_samples_leaf": 5}  # so that no two splits tie, which rounding would decide
    alone = JointForest(**options).fit(X, {"size": Y["size"]})
    silent = JointForest(task_weights={"noise": 0}, **options).fit(X, {"size": Y["size"], "noise": noise})
    np.testing.assert_allclose(alone.predict(X)["size"], silent.predict(X)["size"], rtol=1e-12)
    assert np.std(silent.predict(X)["noise"]) > 0.1
    np.testing.assert_allclose(silent.feature_importances_, alone.feature_importances_, rtol=1e-9)
    heard = JointForest(task_weights=[1, 1], **options).fit(X, {"size": Y["size"], "noise": noise})
    assert np.abs(heard.predict(X)["size"] - alone.predict(X)["size"]).max() > 1e-3


def test_a_great_weight_is_the_limit_of_one_task():
    X, Y = table(missing=0.0)
    noise = np.random.default_rng(5).normal(size=len(X))
    options = {**SMALL, "min_samples_leaf": 5}
    alone = JointForest(**options).fit(X, {"size": Y["size"]})
    heavy = JointForest(task_weights=[1e9, 1], **options).fit(X, {"size": Y["size"], "noise": noise})
    np.testing.assert_allclose(alone.predict(X)["size"], heavy.predict(X)["size"], rtol=1e-9)


def test_rows_without_label_or_weight_take_no_part():
    X, Y = table(missing=0.0)
    Y = np.column_stack([Y["size"], Y["is_big"]])
    drop = np.arange(len(X)) % 3 == 0
    whole = JointForest(**SMALL).fit(X[~drop], Y[~drop])
    hidden = np.where(drop[:, None], np.nan, Y)
    for forest in (
        JointForest(**SMALL).fit(X, hidden),
        JointForest(**SMALL).fit(X, Y, sample_weight=np.where(drop, 0.0, 2.0)),
    ):
        np.testing.assert_array_equal(forest.predict(X), whole.predict(X))
        np.testing.assert_array_equal(forest.oob_mean_[drop], forest._means(X[drop]))
        np.testing.assert_array_equal(forest.oob_mean_[~drop], whole.oob_mean_)
        assert forest.oob_score_ == pytest.approx(whole.oob_score_)


def test_a_hundred_tasks_and_one_task_seen_once():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    Y = X[:, [0]] + rng.normal(size=(60, 100))
    Y[rng.random(Y.shape) < 0.8] = np.nan
    Y[:, 7] = np.nan
    Y[4, 7] = 3.5
    forest = JointForest(**SMALL).fit(X, Y)
    assert np.isfinite(forest.predict(X)).all()
    np.testing.assert_allclose(forest.predict(X)[:, 7], 3.5)
    assert np.isfinite(forest.task_importances_).all()
    np.testing.assert_array_equal(forest.task_importances_[7], 0.0)


def test_predictions_in_a_frame_have_the_index_of_the_inputs():
    X, Y = table()
    rows = pd.DataFrame(X).rename(columns=str)
    forest = JointForest(**SMALL).fit(rows, pd.DataFrame(Y))
    assert forest.predict(rows.iloc[[7, 3]]).index.tolist() == [7, 3]
    assert JointForest(**SMALL).fit(X, pd.DataFrame(Y)).predict(X[:2]).index.tolist() == [0, 1]


def test_a_matrix_with_the_na_of_pandas():
    X, Y = table(missing=0.0)
    frame = pd.DataFrame({"size": Y["size"], "form": pd.array(Y["form"], dtype="string")})
    frame.loc[::3, "form"] = pd.NA
    forest = JointForest(**SMALL).fit(X, frame.to_numpy(dtype=object))
    same = JointForest(**SMALL).fit(X, frame)
    assert forest.kinds_ == ["regression", "multiclass"]
    np.testing.assert_array_equal(forest.predict(X)[:, 1], same.predict(X)["form"])


def test_missing_inputs_and_a_data_frame_of_codes():
    X, Y = table()
    X[::7, 0] = np.nan
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["code"] = np.arange(len(X)) % 3
    forest = JointForest(**SMALL).fit(frame, Y)
    assert forest.feature_names_in_.tolist() == [*"abcd", "code"]
    assert np.isfinite(forest.predict(frame)["size"]).all()


def test_the_seed_decides_and_clones_agree():
    X, Y = table()
    first = JointForest(**SMALL).fit(X, Y)
    np.testing.assert_array_equal(first.predict(X)["size"], clone(first).fit(X, Y).predict(X)["size"])
    # Threads add up the trees in any order.
    threaded = JointForest(n_jobs=2, **SMALL).fit(X, Y)
    np.testing.assert_allclose(first.predict(X)["size"], threaded.predict(X)["size"], rtol=1e-10)
    other = JointForest(n_estimators=15, random_state=1).fit(X, Y)
    assert not np.array_equal(first.predict(X)["size"], other.predict(X)["size"])


def test_a_row_in_every_bag_has_no_out_of_bag_prediction():
    X, Y = table(n=40, missing=0.0)
    forest = JointForest(n_estimators=1, random_state=0).fit(X, Y)
    inside = np.isnan(forest.oob_mean_).all(axis=1)
    assert 0 < inside.sum() < 40
    assert np.isnan(forest.oob_prediction_["size"][inside]).all()
    assert all(label is None for label in forest.oob_prediction_["form"][inside])
    assert np.isfinite(forest.oob_task_scores_).all()


@pytest.mark.parametrize(
    ("options", "Y", "error", "message"),
    [
        ({}, np.c_[np.arange(6.0), np.full(6, np.nan)], TargetError, "Task 1 has no observed label"),
        ({"kinds": {0: "binary"}}, np.ones(6), TargetError, "only the class"),
        ({}, np.r_[np.inf, np.zeros(5)], TargetError, "infinite"),
        ({}, np.arange(5.0), TargetError, "6 rows of inputs but 5"),
        ({}, None, TargetError, "requires y"),
        ({"splits": "good"}, np.arange(6.0), RecipeError, "splits must be one of"),
        ({"missing": "drop"}, np.arange(6.0), RecipeError, "missing must be one of"),
        ({"n_estimators": 0}, np.arange(6.0), RecipeError, "n_estimators"),
        ({"min_samples_leaf": -1}, np.arange(6.0), RecipeError, "min_samples_leaf"),
        ({"task_weights": [-1]}, np.arange(6.0), RecipeError, "task_weights"),
        ({"task_weights": [0]}, np.arange(6.0), RecipeError, "all zero"),
        ({"task_weights": {"b": 1}}, np.arange(6.0), RecipeError, "no target"),
    ],
)
def test_bad_targets_and_options(options, Y, error, message):
    with pytest.raises(error, match=message):
        JointForest(**options).fit(np.arange(12.0).reshape(6, 2), Y)


def test_bad_inputs():
    X, Y = table()
    forest = JointForest(**SMALL)
    with pytest.raises(NotFittedError):
        forest.predict(X)
    forest.fit(X, Y)
    with pytest.raises(InputError, match="3 features"):
        forest.predict(X[:, :3])
    with pytest.raises(InputError, match="infinity"):
        forest.predict(np.full((1, 4), np.inf))
    with pytest.raises(InputError, match="too large"):
        forest.predict(np.full((1, 4), 1e300))
    with pytest.raises(InputError, match="infinity"):
        forest.predict(np.array([[1e300, -1e300, 0.0, 0.0]]))  # one infinity less another is no number
    with pytest.raises(InputError, match=r"convert.*OrdinalEncoder"):
        JointForest(**SMALL).fit(np.array([["text", "x"]]), [1.0])
    with pytest.raises(InputError, match="egative"):
        forest.fit(X, Y, sample_weight=-np.ones(len(X)))
    with pytest.raises(InputError, match="non-zero"):
        forest.fit(X, Y, sample_weight=np.zeros(len(X)))
    with pytest.raises(TargetError, match="weight above zero"):
        forest.fit(X[:2], [1.0, np.nan], sample_weight=[0.0, 1.0])
    with pytest.raises(TargetError, match="as in training"):
        forest.score(X, {"size": Y["size"]})
    with pytest.raises(TargetError, match="rows of targets"):
        forest.score(X[:5], Y)


def test_a_task_without_labels_does_not_count_in_the_score():
    X, Y = table(missing=0.0)
    forest = JointForest(**SMALL).fit(X, Y)
    scores = forest.task_scores(X, {**Y, "size": np.full(len(X), np.nan)})
    np.testing.assert_array_equal(np.isnan(scores), [True, False, False])
    assert forest.score(X, {**Y, "size": np.full(len(X), np.nan)}) == pytest.approx(scores[1:].mean())
    assert np.isnan(JointForest(**SMALL).fit(X[:1], [2.0]).oob_score_)


def test_constant_targets():
    X, Y = table()
    forest = JointForest(**SMALL).fit(X, np.column_stack([np.full(len(X), 0.1), Y["size"]]))
    np.testing.assert_array_equal(forest.predict(X)[:, 0], 0.1)
    np.testing.assert_array_equal(forest.task_importances_[0], 0.0)
    assert forest.oob_task_scores_[0] == 1.0


def test_what_is_not_there_says_so():
    X, Y = table(missing=0.0)
    forest = JointForest(bootstrap=False, **SMALL).fit(X, Y["size"])
    assert not hasattr(forest, "predict_proba")
    assert not hasattr(forest, "oob_score_")
    with pytest.raises(AttributeError, match="without bootstrap"):
        _ = forest.oob_prediction_


def test_stand_ins_also_work_without_bootstrap():
    X, Y = table(n=300)
    X2, Y2 = table(1, n=300, missing=0.0)
    forest = JointForest(bootstrap=False, **SMALL).fit(X, Y)
    assert (forest.task_scores(X2, Y2) > 0.5).all()


def test_the_registry_finds_the_forests():
    assert registry.names() == ["catboost", "forest", "forest_cv"]
    assert registry.load("forest") is JointForest
    assert registry.load("forest_cv") is JointForestCV
    assert registry.summary("forest").startswith("One forest for several targets")
    with pytest.raises(UnknownNameError, match="forest"):
        registry.load("forst")


def test_the_room_does_not_import_torch():
    code = "import sys, polytask.trees as t; t.JointForest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
