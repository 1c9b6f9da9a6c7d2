"""Sufficient statistics say what the rows say."""

import numpy as np
import pytest

from polytask.linear import Independent
from polytask.linear.moments import Moments, Problem
from polytask.linear.rows import read_rows


@pytest.fixture
def tables(rng):
    X = [rng.normal(size=(n, 5)) * [1, 2, 3, 4, 0] + [0, 10, 0, 0, 7] for n in (8, 3, 15)]
    return X, [rng.normal(size=len(x)) * 3 + 20 for x in X], [rng.random(len(x)) + 0.1 for x in X]


@pytest.mark.parametrize("intercept", ["own", "joint", "none"])
@pytest.mark.parametrize("scale", ["none", "inputs", "both"])
def test_loss_is_the_squared_error_of_the_restored_coefficients(intercept, scale, tables, rng):
    X, Y, weights = tables
    moments = Moments.of(read_rows(Independent(), X, Y, weights))
    problem = Problem.of(moments, intercept, scale)
    W = rng.normal(size=problem.shape)
    coef, intercepts = problem.frame.restore(W)
    units = problem.frame.scale_y
    errors = [w @ (y - x @ c - b) ** 2 for x, y, w, c, b in zip(X, Y, weights, coef, intercepts, strict=True)]
    rows_per_task = sum(w.sum() for w in weights) / 3
    np.testing.assert_allclose(moments.squared_error(coef, intercepts), errors, rtol=1e-9)
    assert problem.loss(W) == pytest.approx((errors / units**2).sum() / (2 * rows_per_task), rel=1e-9)


def test_gradient_is_the_slope_of_the_loss(tables, rng):
    X, Y, _ = tables
    problem = Problem.of(Moments.of(read_rows(Independent(), X, Y)), "joint", "inputs")
    W, V = rng.normal(size=(2, *problem.shape))
    slope = (problem.loss(W + 1e-5 * V) - problem.loss(W - 1e-5 * V)) / 2e-5
    assert slope == pytest.approx(np.vdot(problem.apply(W) - problem.cross, V), rel=1e-6)
    values, vectors = problem.eigen
    np.testing.assert_allclose(np.einsum("tij,tj,tkj->tik", vectors, values, vectors), problem.gram, atol=1e-12)
    assert problem.curvature == pytest.approx(values.max())


def test_shared_and_separate_rows_have_the_same_moments(rng):
    X, Y, weight = rng.normal(size=(20, 4)), rng.normal(size=(20, 3)), rng.random(20)
    shared = Moments.of(read_rows(Independent(), X, Y, weight))
    each = Moments.of(read_rows(Independent(), [X] * 3, list(Y.T), [weight] * 3))
    assert shared.gram.shape == (1, 4, 4)
    assert each.gram.shape == (3, 4, 4)
    for name in ("weight", "mean_y", "cross", "square"):
        np.testing.assert_allclose(getattr(shared, name), getattr(each, name))
    np.testing.assert_allclose(np.tile(shared.gram, (3, 1, 1)), each.gram)


def test_large_offsets_lose_no_digits(rng):
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    near = Moments.of(read_rows(Independent(), X, y))
    far = Moments.of(read_rows(Independent(), X + 1e6, y - 1e6))
    np.testing.assert_allclose(far.gram, near.gram, rtol=1e-8, atol=1e-7)
    np.testing.assert_allclose(far.square, near.square, rtol=1e-8)


def test_task_without_labels_takes_the_mean_of_the_others(tables):
    X, Y, _ = tables
    rows = read_rows(Independent(), X, Y)
    moments = Moments.of(rows.take([np.arange(8), np.arange(0), np.arange(15)]))
    assert moments.weight.tolist() == [8.0, 0.0, 15.0]
    assert moments.mean_y[1] == pytest.approx(np.concatenate([Y[0], Y[2]]).mean())
    coef, intercept = Problem.of(moments, "own", "both").frame.restore(np.zeros((3, 5)))
    assert not coef.any()
    assert intercept[1] == pytest.approx(moments.mean_y[1])
