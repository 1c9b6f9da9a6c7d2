"""The solvers against cvxpy, closed forms and optimality conditions, on random and adversarial Gramians."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from polytask.balancing.solvers.bargaining import bargain
from polytask.balancing.solvers.cone import project_all, project_one
from polytask.balancing.solvers.conflict_averse import conflict_averse
from polytask.balancing.solvers.simplex import frank_wolfe, min_norm, project_on_simplex

SIZES = [2, 3, 5, 11, 40]
KINDS = ["random", "conflict", "scales", "low_rank", "duplicates", "nearly_equal"]


def jacobian(n_tasks: int, kind: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, n_tasks, KINDS.index(kind)])
    rows = rng.standard_normal((n_tasks, 3 * n_tasks))
    if kind == "conflict":
        rows -= 0.9 * rows.mean(axis=0) + 0.4 * rng.permutation(rows)
    elif kind == "scales":
        rows *= 10.0 ** rng.uniform(-3, 3, (n_tasks, 1))
    elif kind == "low_rank":  # all in a half space, so that every problem has a solution
        rows = rng.standard_normal((n_tasks, max(2, n_tasks // 3)))
        rows[:, 0] = np.abs(rows[:, 0]) + 0.5
    elif kind == "duplicates":
        rows[n_tasks // 2] = rows[0]
    elif kind == "nearly_equal":
        rows = rows[:1] + 1e-5 * rows
    return rows


def cone_oracle(rows: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    d = cp.Variable(rows.shape[1])
    problem = cp.Problem(cp.Minimize(cp.sum_squares(d - gradient)), [rows @ d >= 0])
    problem.solve(cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return d.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_tasks", SIZES)
def test_min_norm_fulfils_its_optimality_conditions(n_tasks, kind):
    rows = jacobian(n_tasks, kind)
    gramian = rows @ rows.T
    weights, reason = min_norm(gramian)
    assert reason == ""
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    square = weights @ gramian @ weights
    # every gradient gains at least the squared norm, which is the certificate of the shortest vector
    assert (gramian @ weights).min() >= square * (1 - 1e-8) - 1e-13 * gramian.max()


@pytest.mark.parametrize("kind", ["random", "conflict", "duplicates"])
@pytest.mark.parametrize("n_tasks", [2, 5, 11])
def test_min_norm_is_the_point_that_a_convex_program_finds(n_tasks, kind):
    rows = jacobian(n_tasks, kind)
    w = cp.Variable(n_tasks)
    cp.Problem(cp.Minimize(cp.sum_squares(rows.T @ w)), [w >= 0, cp.sum(w) == 1]).solve(
        cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10
    )
    found = min_norm(rows @ rows.T).weights
    np.testing.assert_allclose(rows.T @ found, rows.T @ w.value, atol=1e-5 * np.abs(rows).max())


def test_min_norm_of_two_is_the_closed_form():
    rng = np.random.default_rng(1)
    for _ in range(50):
        a, b = rng.standard_normal((2, 3))
        best = np.clip(b @ (b - a) / ((a - b) @ (a - b)), 0, 1)
        np.testing.assert_allclose(
            min_norm(np.stack([a, b]) @ np.stack([a, b]).T).weights, [best, 1 - best], atol=1e-12
        )


def test_frank_wolfe_finds_the_same_point_as_the_active_set():
    rows = jacobian(11, "conflict")
    gramian = rows @ rows.T
    start = np.full(11, 1 / 11)
    np.testing.assert_allclose(frank_wolfe(gramian, start), min_norm(gramian).weights, atol=1e-6)


def test_a_hull_that_contains_the_origin_has_the_zero_vector():
    rows = np.array([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8], [3.0, 3.0]])
    weights, reason = min_norm(rows @ rows.T)
    assert reason == ""
    np.testing.assert_allclose(rows.T @ weights, 0.0, atol=1e-7)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 2.0, 0.2, 5.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_tasks", SIZES)
def test_the_bargain_fulfils_its_equation(n_tasks, kind, exponent):
    rows = jacobian(n_tasks, kind)
    gramian = rows @ rows.T
    weights, reason = bargain(gramian, exponent)
    assert reason == ""
    assert (weights > 0).all()
    rounding = 1e-14 * np.abs(gramian) @ weights
    assert (np.abs(gramian @ weights - weights**-exponent) <= 1e-6 * weights**-exponent + rounding).all()


@pytest.mark.parametrize("n_tasks", [2, 5, 11])
def test_the_bargain_is_the_minimum_that_a_convex_program_finds(n_tasks):
    rows = jacobian(n_tasks, "conflict")
    w = cp.Variable(n_tasks)
    cp.Problem(cp.Minimize(0.5 * cp.sum_squares(rows.T @ w) - cp.sum(cp.log(w)))).solve(cp.CLARABEL)
    np.testing.assert_allclose(bargain(rows @ rows.T).weights, w.value, rtol=1e-4)


def test_the_bargain_of_two_is_the_closed_form():
    """alpha_1 = sqrt(x), from the two equations; with cosine c: alpha_i = 1 / (n_i sqrt(1 + c))."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        rows = rng.standard_normal((2, 3))
        gramian = rows @ rows.T
        norms = np.sqrt(gramian.diagonal())
        expected = 1 / (norms * np.sqrt(1 + gramian[0, 1] / norms.prod()))
        np.testing.assert_allclose(bargain(gramian).weights, expected, rtol=1e-9)


def test_without_a_bargain_the_min_norm_weights_are_used_and_said_so():
    rows = np.array([[1.0, 0.0], [-2.0, 0.0]])
    weights, reason = bargain(rows @ rows.T)
    assert "min-norm" in reason
    np.testing.assert_allclose(rows.T @ weights, 0.0, atol=1e-12)


@pytest.mark.parametrize("kind", ["random", "conflict", "duplicates", "low_rank"])
@pytest.mark.parametrize("n_tasks", [2, 5, 11])
def test_projections_on_the_cone_are_those_of_a_convex_program(n_tasks, kind):
    rows = jacobian(n_tasks, kind)
    found = project_all(rows @ rows.T)
    assert found.reason == ""
    size = np.abs(rows).max()
    for i, weights in enumerate(found.weights):
        np.testing.assert_allclose(rows.T @ weights, cone_oracle(rows, rows[i]), atol=1e-4 * size)
    preference = np.random.default_rng(3).uniform(0.1, 1, n_tasks)
    one = project_one(rows @ rows.T, preference)
    np.testing.assert_allclose(rows.T @ one.weights, cone_oracle(rows, rows.T @ preference), atol=1e-4 * size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_tasks", SIZES)
def test_projections_fulfil_their_optimality_conditions(n_tasks, kind):
    rows = jacobian(n_tasks, kind)
    gramian = rows @ rows.T
    norms = np.sqrt(gramian.diagonal())
    found = project_all(gramian)
    assert found.reason == ""
    extra = found.weights - np.eye(n_tasks)
    gains = found.weights @ gramian  # row i: products of the projected gradient i with every gradient
    scale = norms[:, None] * norms
    assert (extra * norms / norms[:, None] >= -1e-9).all()
    assert (gains / scale >= -1e-8).all()
    lent = extra * norms / norms[:, None]
    assert np.abs(lent * gains / scale).max() <= 1e-7 * max(1.0, lent.max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_start_does_not_change_the_projections(kind):
    rows = jacobian(11, kind)
    cold = project_all(rows @ rows.T)
    moved = rows + 0.01 * np.abs(rows).max() * np.random.default_rng(4).standard_normal(rows.shape)
    for warm in (cold.active, project_all(moved @ moved.T).active, ~cold.active):
        again = project_all(rows @ rows.T, warm)
        np.testing.assert_allclose(rows.T @ again.weights.T, rows.T @ cold.weights.T, atol=1e-7 * np.abs(rows).max())


@pytest.mark.parametrize("radius", [0.1, 0.5, 0.9, 2.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_tasks", [2, 5, 11, 40])
def test_conflict_averse_direction_is_the_best_for_the_least(n_tasks, kind, radius):
    """Strong duality certifies it: the least gain of the direction equals the dual value of its own weights."""
    rows = jacobian(n_tasks, kind)
    gramian = rows @ rows.T
    weights, reason = conflict_averse(gramian, radius)
    assert reason == ""
    average = rows.mean(axis=0)
    direction = rows.T @ weights
    kappa = radius * np.linalg.norm(average)
    assert np.linalg.norm(direction - average) == pytest.approx(kappa, rel=1e-7)
    w = weights - 1 / n_tasks
    assert (w >= -1e-12 * w.max()).all()
    w = w / w.sum()
    dual = (rows.T @ w) @ average + kappa * np.linalg.norm(rows.T @ w)
    assert (rows @ direction).min() == pytest.approx(dual, rel=1e-6, abs=1e-9 * gramian.max())


@pytest.mark.parametrize("n_tasks", [2, 5, 11])
def test_conflict_averse_direction_is_that_of_a_convex_program(n_tasks):
    rows = jacobian(n_tasks, "conflict")
    average = rows.mean(axis=0)
    d = cp.Variable(rows.shape[1])
    ball = cp.norm(d - average) <= 0.5 * np.linalg.norm(average)
    cp.Problem(cp.Maximize(cp.min(rows @ d)), [ball]).solve(cp.CLARABEL)
    found = rows.T @ conflict_averse(rows @ rows.T, 0.5).weights
    np.testing.assert_allclose(found, d.value, atol=1e-4 * np.abs(rows).max())


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [2, 1, 0]])
def test_conflict_averse_among_gradients_that_cancel_is_the_nearest_that_hurts_no_task(radius, order):
    """The second and third gradient point apart, so no direction gains for all and many hurt none."""
    rows = np.array([[0.0, 2.0], [1.0, 2.0], [-2.0, -4.0]])[order]
    average = rows.mean(axis=0)
    d = cp.Variable(2)
    cp.Problem(cp.Minimize(cp.sum_squares(d - average)), [rows @ d >= 0]).solve(cp.CLARABEL)
    assert np.linalg.norm(d.value - average) < radius * np.linalg.norm(average)
    weights, reason = conflict_averse(rows @ rows.T, radius)
    assert reason == ""
    assert np.abs(weights).max() < 10  # and not huge ones that cancel, which single precision could not add up
    np.testing.assert_allclose(weights @ rows, d.value, atol=1e-6)


def test_the_projection_on_the_simplex_is_that_of_a_quadratic_program():
    rng = np.random.default_rng(5)
    for n in (1, 2, 7, 40):
        point = rng.standard_normal(n)
        w = cp.Variable(n)
        cp.Problem(cp.Minimize(cp.sum_squares(w - point)), [w >= 0, cp.sum(w) == 1]).solve(cp.CLARABEL)
        np.testing.assert_allclose(project_on_simplex(point), w.value, atol=1e-6)


SOLVERS = {
    "min_norm": lambda g: min_norm(g).weights,
    "bargain": lambda g: bargain(g).weights,
    "project_one": lambda g: project_one(g, np.full(len(g), 1 / len(g))).weights,
    "project_all": lambda g: project_all(g).weights.mean(axis=0),
    "conflict_averse": lambda g: conflict_averse(g, 0.5).weights,
}


@pytest.mark.parametrize("scale", [1e-60, 1e-30, 1e30, 1e60])
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("n_tasks", [2, 7])
def test_the_size_of_the_gramian_does_not_matter(n_tasks, name, scale):
    rows = jacobian(n_tasks, "conflict")
    gramian = rows @ rows.T
    expected, found = SOLVERS[name](gramian), SOLVERS[name](scale * gramian)
    # the bargain itself has units: one over the gradient
    unit = scale**-0.5 if name == "bargain" else 1.0
    np.testing.assert_allclose(found, expected * unit, rtol=1e-9, atol=1e-12 * unit)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("n_tasks", [1, 2, 5])
def test_zero_and_rank_one_gramians_give_finite_weights(n_tasks, name):
    zero = np.zeros((n_tasks, n_tasks))
    assert np.isfinite(SOLVERS[name](zero)).all()
    one = np.arange(1.0, n_tasks + 1)
    for line in (one, one * (-1.0) ** np.arange(n_tasks)):
        weights = SOLVERS[name](np.outer(line, line))
        assert np.isfinite(weights).all()
        assert np.abs(weights).max() < 1e6
    partial = np.diag(np.r_[0.0, np.ones(n_tasks - 1)])
    assert np.isfinite(SOLVERS[name](partial)).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_a_gramian_with_the_rounding_of_single_precision_is_no_trouble(name):
    """Rank 3 for 40 tasks in a half space, and then noise that makes it indefinite."""
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((40, 3))
    rows[:, 0] = np.abs(rows[:, 0]) + 0.5
    noise = 1e-7 * rng.standard_normal((40, 40))
    exact, rough = rows @ rows.T, rows @ rows.T + noise + noise.T
    found, expected = (rows.T @ SOLVERS[name](g) for g in (rough, exact))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.linalg.norm(expected))
    assert min_norm(rough).reason == ""
    assert bargain(rough).reason == ""
