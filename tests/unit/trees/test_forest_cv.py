import numpy as np
import pytest

from polytask.errors import InputError, RecipeError
from polytask.trees import JointForest, JointForestCV


def noisy(n=250, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    Y = X[:, [0, 1]] + 3 * rng.normal(size=(n, 2))
    return X, np.where(rng.random(Y.shape) < missing, np.nan, Y)


def test_noise_asks_for_large_leaves_and_a_clean_target_for_small_ones():
    options = {"n_estimators": 30, "leaves": (1, 20), "features": (1.0,), "splits": ("best",), "random_state": 0}
    X, Y = noisy()
    assert JointForestCV(**options).fit(X, Y).best_params_["min_samples_leaf"] == 20
    assert JointForestCV(**options).fit(X, np.sin(3 * X[:, :2])).best_params_["min_samples_leaf"] == 1


@pytest.mark.parametrize("missing", [0.0, 0.6])
def test_the_best_is_the_forest_of_the_best_row(missing):
    X, Y = noisy(missing=missing)
    search = JointForestCV(n_estimators=20, leaves=(1, 10), features=(1.0, 2), random_state=4).fit(X, Y)
    assert len(search.results_) == 8
    best = max(search.results_, key=lambda row: row["oob_score"])
    assert {name: best[name] for name in search.best_params_} == search.best_params_
    assert search.best_score_ == best["oob_score"] == pytest.approx(np.mean(best["oob_task_scores"]))
    alone = JointForest(n_estimators=20, random_state=4, **search.best_params_).fit(X, Y)
    np.testing.assert_array_equal(search.predict(X), alone.predict(X))
    assert search.score(X, Y) == alone.score(X, Y)
    np.testing.assert_array_equal(search.task_importances_, alone.task_importances_)
    np.testing.assert_array_equal(search.feature_importances_, alone.feature_importances_)


def test_more_trees_than_the_search_uses():
    X, Y = noisy(n=60)
    search = JointForestCV(n_estimators=120, leaves=(5,), features=(1.0,), splits=("random",), random_state=0).fit(X, Y)
    assert len(search.best_forest_.forest_.estimators_) == 120


def test_two_names_for_one_number_of_inputs_are_tried_once():
    X, Y = noisy(n=50)
    options = {"n_estimators": 3, "leaves": (1,), "splits": ("random",), "random_state": 0}
    search = JointForestCV(features=(None, 1.0, 5, "sqrt", 0.4, 2), **options).fit(X, Y)
    assert [row["max_features"] for row in search.results_] == [None, "sqrt"]


def test_task_weights_weigh_the_scores():
    X, Y = noisy(n=80)
    options = {"n_estimators": 10, "leaves": (1,), "features": (1.0,), "splits": ("random",), "random_state": 0}
    search = JointForestCV(task_weights=[1, 0], **options).fit(X, Y)
    assert search.best_score_ == pytest.approx(search.results_[0]["oob_task_scores"][0])


def test_classes_and_missing_probabilities():
    X, Y = noisy(n=80)
    options = {"n_estimators": 10, "leaves": (1, 5), "features": (1.0,), "splits": ("random",), "random_state": 0}
    search = JointForestCV(**options)
    assert not hasattr(search, "predict_proba")
    assert not hasattr(search.fit(X, Y), "predict_proba")
    assert search.fit(X, Y[:, 0] > 0).predict_proba(X).shape == (80, 2)
    targets = {"a": Y[:, 0] > 0, "b": Y[:, 1]}
    search.fit(X, targets)
    assert (search.tasks_, search.kinds_) == (["a", "b"], ["binary", "regression"])
    assert search.classes_[0].tolist() == [False, True]
    np.testing.assert_array_equal(search.task_scores(X, targets), search.best_forest_.task_scores(X, targets))


@pytest.mark.parametrize("wrong", [{"leaves": ()}, {"features": "sqrt"}, {"splits": 3}, {"missing": "oob"}])
def test_nothing_to_try(wrong):
    X, Y = noisy(n=20)
    with pytest.raises(RecipeError, match="sequence"):
        JointForestCV(**wrong).fit(X, Y)


def test_a_table_without_inputs_is_refused_by_name():
    with pytest.raises(InputError, match="0 feature"):
        JointForestCV().fit(np.empty((20, 0)), np.arange(20.0))
