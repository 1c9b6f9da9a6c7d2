"""The scikit-learn face."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from polytask import MultiTaskEstimator
from polytask.errors import InputError, TargetError

QUICK = {"epochs": 3, "batch_size": 16}
SMALL = {"name": "tabular", "width": 8, "n_blocks": 1}

EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "Batches are drawn by row: a row given twice is not a row of weight two.",
}


@parametrize_with_checks(
    [MultiTaskEstimator(training={"epochs": 3, "batch_size": 64}, random_state=0)],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    Y = np.column_stack([X @ [1, 2, 3] + rng.normal(size=80), X[:, 0] > 0, rng.integers(0, 3, 80)]).astype(float)
    Y[rng.random(Y.shape) < 0.3] = np.nan
    return X, Y


def test_missing_labels_and_mixed_kinds(data):
    X, Y = data
    model = MultiTaskEstimator(encoder=SMALL, training=QUICK, random_state=0).fit(X, Y)
    assert [task.kind for task in model.tasks_] == ["regression", "binary", "multiclass"]
    assert model.predict(X).shape == (80, 3)
    assert not np.isnan(model.predict(X)).any()
    probabilities = model.predict_proba(X)
    assert {name: p.shape for name, p in probabilities.items()} == {"y1": (80, 2), "y2": (80, 3)}
    np.testing.assert_allclose(probabilities["y2"].sum(1), 1, rtol=1e-5)
    assert -5 < model.score(X, Y) <= 1


def test_score_is_the_mean_of_r2_and_accuracy_over_observed_labels(data):
    from sklearn.metrics import accuracy_score, r2_score

    X, Y = data
    model = MultiTaskEstimator(encoder=SMALL, training=QUICK, random_state=0).fit(X, Y)
    P, seen, w = model.predict(X), ~np.isnan(Y), np.random.default_rng(1).random(80)
    expected = [
        measure(Y[seen[:, i], i], P[seen[:, i], i].astype(float), sample_weight=w[seen[:, i]])
        for i, measure in enumerate([r2_score, accuracy_score, accuracy_score])
    ]
    assert model.score(X, Y, sample_weight=w) == pytest.approx(np.mean(expected))


def test_it_learns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    Y = np.column_stack([X @ [1, 2, 3], X @ [1, 2, 2]]) + 0.1 * rng.normal(size=(400, 2))
    model = MultiTaskEstimator(training={"epochs": 60, "batch_size": 64}, random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.9


def test_frames_in_frames_out():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "age": rng.integers(20, 80, 60),
            "colour": pd.Categorical(rng.choice(["red", "green"], 60)),
            "when": pd.date_range("2024-01-01", periods=60),
            "note": rng.choice(["a", "b", None], 60),
        }
    )
    Y = pd.DataFrame({"ill": rng.choice(["yes", "no", None], 60), "cost": rng.normal(size=60), "age": rng.random(60)})
    model = MultiTaskEstimator({"cost": {"kind": "regression", "weight": 2}}, encoder=SMALL, training=QUICK).fit(X, Y)
    answer = model.predict(X)
    assert list(answer) == ["ill", "cost", "age"]
    assert set(answer["ill"]) <= {"yes", "no"}
    assert model.tasks_[1].weight == 2
    assert list(model.predict_proba(X)) == ["ill"]
    assert list(model.feature_names_in_) == ["age", "colour", "when", "note"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"age": "years"}))
    pd.testing.assert_frame_equal(model.predict(X.iloc[:7]), answer.iloc[:7])


def test_one_target_is_a_vector():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), rng.choice(["cat", "dog", "bird"], 60)
    model = MultiTaskEstimator(encoder=SMALL, training=QUICK).fit(X, y)
    assert model.predict(X).shape == (60,)
    assert model.predict_proba(X).shape == (60, 3)
    assert model.tasks_[0].classes_.names == ("bird", "cat", "dog")


def test_clone_and_grid_search(data):
    X, Y = data
    Y = np.nan_to_num(Y[:, :2])
    model = MultiTaskEstimator(["regression", "binary"], encoder=SMALL, training=QUICK, random_state=3)
    twin = clone(model)
    np.testing.assert_array_equal(model.fit(X, Y).predict(X), twin.fit(X, Y).predict(X))
    grid = {"sharing": ["hard", {"name": "hard", "ratio": 0.0}], "balancer": ["equal", "uncertainty"]}
    search = GridSearchCV(model, grid, cv=2).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict(X).shape == (80, 2)


def test_in_a_pipeline(data):
    X, Y = data
    pipeline = make_pipeline(StandardScaler(), MultiTaskEstimator(encoder=SMALL, training=QUICK, random_state=0))
    assert pipeline.fit(X, Y).predict(X).shape == (80, 3)


def test_random_state_decides(data):
    X, Y = data
    one, same, other = (
        MultiTaskEstimator(encoder=SMALL, training=QUICK, random_state=seed).fit(X, Y).predict(X) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one[:, 0], other[:, 0])


def test_without_validation_all_epochs_are_trained(data):
    X, Y = data
    model = MultiTaskEstimator(encoder=SMALL, training={"epochs": 4}, validation=0.0).fit(X, Y)
    assert model.n_iter_ == 4
    assert model.history_[-1]["validation"] == {}


def test_bad_input(data):
    X, Y = data
    model = MultiTaskEstimator(training=QUICK)
    with pytest.raises(TargetError, match=r"y1.*missing"):
        model.fit(X, np.column_stack([Y[:, 0], np.full(80, np.nan)]))
    with pytest.raises(TargetError, match="80 rows and Y has 79"):
        model.fit(X, Y[:79])
    with pytest.raises(TargetError, match="2 entries for the 3 columns"):
        MultiTaskEstimator(["regression", "binary"]).fit(X, Y)
    with pytest.raises(TargetError, match=r"\['z'\], which are no columns of Y"):
        MultiTaskEstimator({"z": "count"}).fit(X, Y)
    with pytest.raises(InputError, match=r"shape \(80,\)"):
        model.fit(X, Y, sample_weight=np.ones(79))
    with pytest.raises(InputError, match="is zero"):
        model.fit(X, Y, sample_weight=np.zeros(80))
    with pytest.raises(InputError, match="at least 0"):
        model.fit(X, Y, sample_weight=-np.ones(80))
    with pytest.raises(TargetError, match="None of the tasks"):
        MultiTaskEstimator(training=QUICK, encoder=SMALL).fit(X, X[:, 0] * 1.5).predict_proba(X)
    fitted = MultiTaskEstimator(training=QUICK, encoder=SMALL).fit(X, Y)
    with pytest.raises(ValueError, match="3 features"):
        fitted.predict(X[:, :2])
    with pytest.raises(TargetError, match="no observed label"):
        fitted.score(X, np.full_like(Y, np.nan))
    for wrong in (Y[:, :-1], Y[:-1]):
        with pytest.raises(TargetError, match=f"a row for each of the {len(X)} of X and a column for each of"):
            fitted.score(X, wrong)
    with pytest.raises(InputError, match="sample_weight needs the shape"):
        fitted.score(X, Y, sample_weight=np.ones(3))
