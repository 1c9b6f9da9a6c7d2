"""The linear models where scikit-learn solves the same problem."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, MultiTaskElasticNet, MultiTaskLasso, Ridge
from sklearn.model_selection import GridSearchCV, KFold

from polytask.linear import L21, L21CV, ElasticNet, Independent, IndependentCV, MeanRegularised, Pooled


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 12)) @ rng.normal(size=(12, 12)) / 3 + rng.normal(size=12)
    W = rng.normal(size=(5, 12)) * (rng.random(12) < 0.5)
    return X, X @ W.T + rng.normal(size=5) + rng.normal(size=(80, 5))


@pytest.mark.parametrize("alpha", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("own", [True, False])
def test_l21_is_multi_task_lasso(data, alpha, own):
    X, Y = data
    ours = L21(alpha, intercept="own" if own else "none", tol=1e-13, max_iter=100_000).fit(X, Y)
    theirs = MultiTaskLasso(alpha, fit_intercept=own, tol=1e-13, max_iter=100_000).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)
    np.testing.assert_array_equal(ours.coef_ != 0, theirs.coef_ != 0)


@pytest.mark.parametrize(("alpha", "l1_ratio"), [(1.0, 0.5), (0.1, 0.2), (0.1, 0.9), (0.3, 1.0)])
def test_elastic_net_is_multi_task_elastic_net(data, alpha, l1_ratio):
    X, Y = data
    ours = ElasticNet(alpha, l1_ratio=l1_ratio, tol=1e-13, max_iter=100_000).fit(X, Y)
    theirs = MultiTaskElasticNet(alpha, l1_ratio=l1_ratio, tol=1e-13, max_iter=100_000).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)


def test_independent_is_ridge_per_task(data):
    X, Y = data
    Y = np.where(np.random.default_rng(1).random(Y.shape) < 0.3, np.nan, Y)
    observed = ~np.isnan(Y)
    ours = Independent(0.5).fit(X, Y)
    for task, keep in enumerate(observed.T):
        theirs = Ridge(0.5 * observed.sum() / 5).fit(X[keep], Y[keep, task])
        np.testing.assert_allclose(ours.coef_[task], theirs.coef_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.intercept_[task], theirs.intercept_, rtol=1e-9)


def test_pooled_is_one_ridge(data):
    X, Y = data
    sizes = [30, 10, 40]
    tables, labels = np.split(X, np.cumsum(sizes)[:2]), np.split(Y[:, 0], np.cumsum(sizes)[:2])
    ours = Pooled(0.5).fit(tables, labels)
    theirs = Ridge(0.5 * len(X)).fit(X, Y[:, 0])
    np.testing.assert_allclose(ours.coef_, np.tile(theirs.coef_, (3, 1)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-9)


def test_weak_mean_regularised_is_least_squares_and_strong_is_pooled(data):
    X, Y = data
    tables, labels = np.split(X, [30]), np.split(Y[:, 0], [30])
    weak = MeanRegularised(1e-10, ridge=0.0).fit(tables, labels)
    for task in range(2):
        alone = LinearRegression().fit(tables[task], labels[task])
        np.testing.assert_allclose(weak.coef_[task], alone.coef_, atol=1e-6)
    strong = MeanRegularised(1e9, ridge=0.0, intercept="joint").fit(tables, labels)
    together = LinearRegression().fit(X, Y[:, 0])
    np.testing.assert_allclose(strong.coef_, np.tile(together.coef_, (2, 1)), atol=1e-6)
    np.testing.assert_allclose(strong.intercept_, together.intercept_, atol=1e-6)


@pytest.mark.parametrize(("ours", "settings"), [(IndependentCV, {}), (L21CV, {"tol": 1e-9})])
def test_cross_validation_is_a_grid_search(data, ours, settings):
    X, Y = data
    alphas = np.geomspace(1.0, 1e-3, 6)
    fitted = ours(alphas, cv=KFold(4), **settings).fit(X, Y)
    model = fitted.model_class(**settings)
    search = GridSearchCV(model, {"alpha": alphas}, cv=KFold(4), scoring="neg_mean_squared_error").fit(X, Y)
    assert fitted.alpha_ == pytest.approx(search.best_params_["alpha"])
    splits = np.stack([search.cv_results_[f"split{fold}_test_score"] for fold in range(4)], axis=1)
    known = ~np.isnan(fitted.mse_path_[0])
    np.testing.assert_allclose(fitted.mse_path_[0][known], -splits[known], rtol=2e-2)
    np.testing.assert_allclose(fitted.coef_, search.best_estimator_.coef_, atol=1e-8)
