"""Every linear model against a general convex solver, on the rows themselves."""

import cvxpy as cp
import numpy as np
import pytest

from polytask.linear import registry

GRAPH = np.array([[0, 2, 0, 0], [2, 0, 1, 0], [0, 1, 0, 0.5], [0, 0, 0.5, 0]], dtype=float)

# name -> settings to try
SETTINGS = {
    "independent": [{"alpha": 0.3}],
    "pooled": [{"alpha": 0.3, "intercept": "own"}, {"alpha": 0.3, "intercept": "joint"}],
    "mean_regularised": [{"alpha": 0.7, "ridge": 0.05}, {"alpha": 30.0, "ridge": 0.0}],
    "graph_laplacian": [{"alpha": 0.7, "ridge": 0.05, "graph": GRAPH}, {"alpha": 2.0, "ridge": 1e-4}],
    "trace_norm": [{"alpha": 0.2}, {"alpha": 0.02}],
    "l21": [{"alpha": 0.2}, {"alpha": 0.02}],
    "elastic_net": [{"alpha": 0.2, "l1_ratio": 0.3}, {"alpha": 0.2, "l1_ratio": 1.0}],
    "dirty": [{"alpha": 0.4, "ratio": 0.6}, {"alpha": 0.1, "ratio": 0.4}],
    "robust": [{"alpha": 0.3, "ratio": 0.7}, {"alpha": 0.1, "ratio": 0.8}],
    "low_rank_sparse": [{"alpha": 0.3, "ratio": 0.5}, {"alpha": 0.1, "ratio": 0.6}],
    "clustered": [{"alpha": 0.3, "n_clusters": 2, "ratio": 0.1}, {"alpha": 2.0, "n_clusters": 1, "ratio": 0.02}],
}
CASES = [(name, settings) for name, tries in SETTINGS.items() for settings in tries]


def penalty(name, settings, W):
    """The penalty of each model in the modelling language, and the constraints that come with it."""
    n_tasks = W.shape[0]
    alpha, ratio = settings["alpha"], settings.get("ratio")
    mean = cp.sum(W, axis=0, keepdims=True) / n_tasks
    other = cp.Variable(W.shape)
    if name == "independent":
        return alpha / 2 * cp.sum_squares(W), []
    if name == "pooled":
        return alpha / 2 * cp.sum_squares(W), [W[t] == W[0] for t in range(1, n_tasks)]
    if name == "mean_regularised":
        spread = cp.sum_squares(W - np.ones((n_tasks, 1)) @ mean)
        return alpha / 2 * spread + settings["ridge"] * n_tasks / 2 * cp.sum_squares(mean), []
    if name == "graph_laplacian":
        graph = settings.get("graph", np.full((n_tasks, n_tasks), 1 / n_tasks))
        pairs = [(s, t) for t in range(n_tasks) for s in range(t)]
        pull = sum(graph[s, t] * cp.sum_squares(W[s] - W[t]) for s, t in pairs)
        return alpha / 2 * pull + settings["ridge"] / 2 * cp.sum_squares(W), []
    if name == "trace_norm":
        return alpha * cp.normNuc(W), []
    if name == "l21":
        return alpha * cp.sum(cp.norm(W, 2, axis=0)), []
    if name == "elastic_net":
        share = settings["l1_ratio"]
        return alpha * (share * cp.sum(cp.norm(W, 2, axis=0)) + (1 - share) / 2 * cp.sum_squares(W)), []
    if name == "dirty":
        return alpha * (cp.sum(cp.max(cp.abs(W - other), axis=0)) + ratio * cp.sum(cp.abs(other))), []
    if name == "robust":
        return alpha * (cp.normNuc(W - other) + ratio * cp.sum(cp.norm(other, 2, axis=1))), []
    if name == "low_rank_sparse":
        return alpha * (cp.normNuc(W - other) + ratio * cp.sum(cp.abs(other))), []
    assert name == "clustered"
    M = cp.Variable((n_tasks, n_tasks), PSD=True)
    inside = [np.eye(n_tasks) - M >> 0, cp.trace(M) == settings["n_clusters"]]
    return alpha / 2 * ratio * (1 + ratio) * cp.matrix_frac(W, ratio * np.eye(n_tasks) + M), inside


def objective(name, settings, X, Y, model=None):
    """The least objective, over everything or at a fitted model's coefficients and intercepts."""
    settings = {"intercept": "own", **settings}
    observed = [~np.isnan(y) for y in Y]
    X, Y = (
        [x[keep] for x, keep in zip(X, observed, strict=True)],
        [y[keep] for y, keep in zip(Y, observed, strict=True)],
    )
    b = cp.Variable(len(X)) if model is None else model.intercept_
    coef = None if model is None else model.coef_
    if settings["intercept"] == "joint":
        centre_x, centre_y = np.concatenate(X).mean(0), np.concatenate(Y).mean()
        X = [np.hstack([x - centre_x, np.ones((len(x), 1))]) for x in X]
        Y = [y - centre_y for y in Y]
        if model is not None:
            coef = np.hstack([coef, (b - centre_y + coef @ centre_x)[:, None]])
        b = np.zeros(len(X))
    W = cp.Variable((len(X), X[0].shape[1])) if model is None else cp.Constant(coef)
    rows_per_task = np.mean([len(y) for y in Y])
    loss = sum(cp.sum_squares(y - x @ W[t] - b[t]) for t, (x, y) in enumerate(zip(X, Y, strict=True))) / (
        2 * rows_per_task
    )
    value, constraints = penalty(name, settings, W)
    if name == "pooled" and model is not None:
        np.testing.assert_allclose(coef, np.tile(coef[0], (len(coef), 1)), atol=1e-12)
        constraints = []
    problem = cp.Problem(cp.Minimize(loss + value), constraints)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return problem.value


def assert_optimal(name, settings, X, Y, model):
    least = objective(name, settings, X, Y)
    assert model.objective_ == pytest.approx(least, rel=1e-5)
    assert objective(name, settings, X, Y, model) == pytest.approx(least, rel=1e-5)
    assert model.objective_ - least <= model.gap_ + 1e-7 * least


def tables(rng, n_tasks=4, width=5):
    sizes = rng.integers(4, 25, size=n_tasks)
    scales = np.array([1.0, 2.0, 0.5, 1.0, 3.0])
    X = [rng.normal(size=(n, width)) * scales + rng.normal(size=width) for n in sizes]
    common = rng.normal(size=width)
    return X, [x @ (common + 0.5 * rng.normal(size=width)) + rng.normal() + 0.3 * rng.normal(size=len(x)) for x in X]


def test_every_model_is_here():
    assert set(SETTINGS) == set(registry.names())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_tables_of_different_rows(name, settings, seed):
    X, Y = tables(np.random.default_rng(seed))
    Y[1][0] = np.nan
    model = registry.create(name, **settings).fit(X, Y)
    assert_optimal(name, settings, X, Y, model)


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_one_table_with_missing_labels(name, settings, missing):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(20, 5))
    Y = X @ rng.normal(size=(5, 4)) + rng.normal(size=4) + 0.3 * rng.normal(size=(20, 4))
    Y[rng.random(Y.shape) < missing] = np.nan
    model = registry.create(name, **settings).fit(X, Y)
    assert_optimal(name, settings, [X] * 4, list(Y.T), model)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_joint_intercept(name):
    settings = {**SETTINGS[name][0], "intercept": "joint"}
    X, Y = tables(np.random.default_rng(3))
    model = registry.create(name, **settings).fit(X, Y)
    assert_optimal(name, settings, X, Y, model)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_more_features_than_rows(name):
    settings = SETTINGS[name][0]
    rng = np.random.default_rng(4)
    X, Y = [rng.normal(size=(6, 12)) for _ in range(4)], [rng.normal(size=6) for _ in range(4)]
    model = registry.create(name, **settings).fit(X, Y)
    assert_optimal(name, settings, X, Y, model)
