"""The joint forest against scikit-learn where the problems coincide."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor

from polytask.trees import JointForest
from polytask.trees.columns import read_columns
from polytask.trees.targets import learn_code

OPTIONS = {"n_estimators": 20, "max_features": 1.0, "random_state": 3}


def standardised(Y, weight=None):
    """The targets to the last bit as the joint forest has them: rounding decides between splits of equal gain."""
    columns = read_columns(Y)
    weight = np.ones(len(Y)) if weight is None else weight
    code = learn_code(columns, None, weight)
    outputs = code.encode(columns)
    mean = np.average(Y, axis=0, weights=weight)
    scale = np.sqrt(np.average((Y - mean) ** 2, axis=0, weights=weight))
    np.testing.assert_allclose(outputs, (Y - mean) / scale, rtol=1e-9, atol=1e-12)
    return outputs, mean, scale


def table(seed, n=150, n_tasks=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)).astype(np.float32)
    Y = np.column_stack([X[:, t % 5] * X[:, (t + 1) % 5] + 0.2 * rng.normal(size=n) for t in range(n_tasks)])
    return X, Y * [10, 1, 0.1][:n_tasks] + 5


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("leaf", [1, 4, 0.05])
@pytest.mark.parametrize(("splits", "peer"), [("random", ExtraTreesRegressor), ("best", RandomForestRegressor)])
def test_regressions_without_missing_labels_equal_scikit_learn(bootstrap, leaf, splits, peer):
    X, Y = table(0)
    rng = np.random.default_rng(1)
    X[rng.random(X.shape) < 0.1] = np.nan
    options = {**OPTIONS, "bootstrap": bootstrap, "min_samples_leaf": leaf}
    ours = JointForest(splits=splits, **options).fit(X[:100], Y[:100])
    outputs, mean, scale = standardised(Y[:100])
    theirs = peer(oob_score=bootstrap, **options).fit(X[:100], outputs)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X) * scale + mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.feature_importances_, theirs.feature_importances_, rtol=1e-10, atol=1e-12)
    if bootstrap:
        expected = theirs.oob_prediction_ * scale + mean
        reached = ~np.isnan(ours.oob_mean_).any(axis=1)
        np.testing.assert_allclose(ours.oob_prediction_[reached], expected[reached], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.oob_score_, theirs.oob_score_, atol=1e-3 if not reached.all() else 1e-12)


def test_row_weights_equal_scikit_learn():
    X, Y = table(2)
    weight = np.random.default_rng(0).uniform(0.2, 3.0, size=len(X))
    outputs, mean, scale = standardised(Y, weight)
    for bootstrap in (True, False):
        options = {**OPTIONS, "bootstrap": bootstrap}
        ours = JointForest(**options).fit(X, Y, sample_weight=weight).predict(X)
        theirs = ExtraTreesRegressor(**options).fit(X, outputs, sample_weight=weight).predict(X)
        np.testing.assert_allclose(ours, theirs * scale + mean, rtol=1e-11)


def test_one_task_has_its_own_importances_of_scikit_learn():
    X, Y = table(4)
    ours = JointForest(**OPTIONS).fit(X, Y[:, 0])
    theirs = ExtraTreesRegressor(bootstrap=True, **OPTIONS).fit(X, standardised(Y[:, :1])[0][:, 0])
    np.testing.assert_allclose(ours.task_importances_[0], theirs.feature_importances_, rtol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(("splits", "peer"), [("random", ExtraTreesClassifier), ("best", RandomForestClassifier)])
def test_one_classification_grows_the_trees_of_the_gini_criterion(n_classes, splits, peer):
    """Summed variance of the one-hot classes is the Gini impurity, so splits agree up to the last bit of a threshold."""
    X, Y = table(5, n=300)
    labels = np.digitize(Y[:, 0], np.quantile(Y[:, 0], np.arange(1, n_classes) / n_classes))
    labels = np.array(["a", "b", "c"])[labels]
    options = {**OPTIONS, "min_samples_leaf": 5, "bootstrap": True}
    ours = JointForest(splits=splits, **options).fit(X, labels)
    theirs = peer(**options).fit(X, labels)
    np.testing.assert_array_equal(ours.classes_[0], theirs.classes_)
    same = [
        np.array_equal(a.tree_.feature, b.tree_.feature) and np.allclose(a.tree_.threshold, b.tree_.threshold)
        for a, b in zip(ours.forest_.estimators_, theirs.estimators_, strict=True)
    ]
    if splits == "random":
        # Rounding breaks the rare ties differently; "best" meets them often (many thresholds of equal gain).
        assert np.mean(same) >= 0.8
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=0.08)
    assert np.mean(ours.predict(X) == theirs.predict(X)) > 0.97
