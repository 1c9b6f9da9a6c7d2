"""What every linear model becomes as its strength goes to zero and to infinity."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from polytask.linear import registry

# name -> settings, the weak limit and the strong one
LIMITS = {
    "independent": ({}, "alone", "zero"),
    "pooled": ({"intercept": "own"}, "together", "zero"),
    "mean_regularised": ({"ridge": 0.0}, "alone", "together"),
    "graph_laplacian": ({"ridge": 1e-9}, "alone", "together"),
    "trace_norm": ({}, "alone", "zero"),
    "l21": ({}, "alone", "zero"),
    "elastic_net": ({"l1_ratio": 0.5}, "alone", "zero"),
    "dirty": ({"ratio": 0.6}, "alone", "zero"),
    "robust": ({"ratio": 0.8}, "alone", "zero"),
    "low_rank_sparse": ({"ratio": 0.6}, "alone", "zero"),
    "clustered": ({}, "alone", "zero"),
}


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(n, 4)) + rng.normal(size=4) for n in (15, 40, 25)]
    return X, [x @ (1 + rng.normal(size=4)) + rng.normal() + 0.3 * rng.normal(size=len(x)) for x in X]


def expected(limit, X, Y):
    if limit == "alone":
        return np.stack([LinearRegression().fit(x, y).coef_ for x, y in zip(X, Y, strict=True)])
    if limit == "together":  # one slope, every task its own intercept: rows centred within their tasks
        x, y = np.vstack([x - x.mean(0) for x in X]), np.concatenate([y - y.mean() for y in Y])
        return np.tile(np.linalg.lstsq(x, y)[0], (len(X), 1))
    return np.zeros((len(X), X[0].shape[1]))


def test_every_model_is_here():
    assert set(LIMITS) == set(registry.names())


@pytest.mark.parametrize("name", sorted(LIMITS))
@pytest.mark.parametrize(("alpha", "which"), [(1e-5, 1), (1e6, 2)])
def test_limits_of_the_strength(name, alpha, which, tables):
    settings = dict(LIMITS[name][0])
    model = registry.load(name)(alpha, **settings)
    if hasattr(model, "tol"):
        model.set_params(tol=1e-9, max_iter=50_000)
    fitted = model.fit(*tables)
    limit = expected(LIMITS[name][which], *tables)
    np.testing.assert_allclose(fitted.coef_, limit, atol=1e-4)
    intercepts = [y.mean() - x.mean(0) @ w for x, y, w in zip(*tables, limit, strict=True)]
    np.testing.assert_allclose(fitted.intercept_, intercepts, atol=1e-3)
