"""Laws that every linear model keeps, and what each one alone promises."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import polytask.linear
from polytask.errors import InputError, RecipeError, TargetError, UnknownNameError
from polytask.linear import (
    L21,
    Clustered,
    Dirty,
    ElasticNet,
    GraphLaplacian,
    Independent,
    LinearModel,
    LowRankSparse,
    MeanRegularised,
    Pooled,
    Robust,
    TraceNorm,
    registry,
)
from polytask.linear.moments import Moments, Problem
from polytask.linear.rows import read_rows

NAMES = registry.names()


def make(name, **settings):
    model_class = registry.load(name)
    if hasattr(model_class(), "tol"):
        settings = {"tol": 1e-12, "max_iter": 50_000, **settings}
    return model_class(**{"alpha": 0.2, **settings})


@pytest.fixture
def tables(rng):
    sizes = [12, 30, 7, 20]
    W = rng.normal(size=(4, 6))
    X = [rng.normal(size=(n, 6)) + 1 for n in sizes]
    return X, [x @ w + 2 + 0.3 * rng.normal(size=len(x)) for x, w in zip(X, W, strict=True)]


@pytest.fixture
def matrix(rng):
    X = rng.normal(size=(40, 6)) + 1
    Y = X @ rng.normal(size=(6, 4)) + 0.3 * rng.normal(size=(40, 4))
    return X, np.where(rng.random(Y.shape) < 0.3, np.nan, Y)


def test_names_of_the_folder():
    assert (
        sorted(
            [
                "clustered",
                "dirty",
                "elastic_net",
                "graph_laplacian",
                "independent",
                "l21",
                "low_rank_sparse",
                "mean_regularised",
                "pooled",
                "robust",
                "trace_norm",
            ]
        )
        == NAMES
    )
    assert all(issubclass(registry.load(name), LinearModel) for name in NAMES)
    with pytest.raises(UnknownNameError, match="Did you mean 'trace_norm'"):
        registry.load("trace_nrom")
    with pytest.raises(AttributeError, match="Nothing"):
        _ = polytask.linear.NothingCV


@pytest.mark.parametrize("name", NAMES)
class TestEveryModel:
    def test_answers_in_the_form_of_the_question(self, name, tables, matrix):
        X, Y = tables
        model = make(name).fit(X, Y)
        assert model.coef_.shape == (4, 6)
        assert model.intercept_.shape == (4,)
        assert [len(p) for p in model.predict(X)] == [12, 30, 7, 20]
        together = model.predict(X[1])
        assert together.shape == (30, 4)
        np.testing.assert_allclose(together[:, 1], model.predict(X)[1])
        assert make(name).fit(*matrix).predict(matrix[0]).shape == (40, 4)
        alone = make(name).fit(X[0], Y[0])
        assert alone.coef_.shape == (6,)
        assert alone.predict(X[0]).shape == (12,)

    def test_both_forms_of_the_same_labels_agree(self, name, matrix):
        X, Y = matrix
        observed = ~np.isnan(Y)
        one = make(name).fit(X, Y)
        each = make(name).fit(
            [X[keep] for keep in observed.T], [y[keep] for y, keep in zip(Y.T, observed.T, strict=True)]
        )
        holes = make(name).fit([X] * 4, list(Y.T))
        np.testing.assert_allclose(each.coef_, one.coef_, atol=1e-9)
        np.testing.assert_allclose(holes.intercept_, one.intercept_, atol=1e-9)

    def test_shared_gram_matrix_changes_nothing(self, name, rng):
        X, Y = rng.normal(size=(25, 5)), rng.normal(size=(25, 3))
        rows = read_rows(make(name), X, Y)
        assert rows.is_shared
        shared = make(name, intercept="joint", scale="both").fit(X, Y)
        each = make(name, intercept="joint", scale="both").fit([X] * 3, list(Y.T))
        np.testing.assert_allclose(each.coef_, shared.coef_, atol=1e-5)
        assert each.objective_ == pytest.approx(shared.objective_, rel=1e-9)

    def test_order_of_the_tasks_does_not_matter(self, name, tables):
        X, Y = tables
        order = [2, 0, 3, 1]
        there = make(name).fit(X, Y).coef_[order]
        np.testing.assert_allclose(make(name).fit([X[t] for t in order], [Y[t] for t in order]).coef_, there, atol=1e-5)

    @pytest.mark.parametrize("intercept", ["own", "joint"])
    def test_shift_of_all_labels_and_inputs_moves_only_intercepts(self, name, intercept, tables):
        X, Y = tables
        model = make(name, intercept=intercept).fit(X, Y)
        moved = make(name, intercept=intercept).fit([x + 100.0 for x in X], [y - 50.0 for y in Y])
        np.testing.assert_allclose(moved.coef_, model.coef_, atol=1e-6)
        np.testing.assert_allclose(moved.predict(X[0] + 100.0), model.predict(X[0]) - 50.0, atol=1e-5)

    def test_scaled_problems_do_not_depend_on_units(self, name, tables):
        X, Y = tables
        units, own = np.array([1.0, 10, 0.1, 5, 1, 1000]), np.array([1.0, 7.0, 0.01, 100.0])
        model = make(name, scale="both").fit(X, Y)
        other = make(name, scale="both").fit([x * units for x in X], [y * u for y, u in zip(Y, own, strict=True)])
        np.testing.assert_allclose(other.coef_ * units / own[:, None], model.coef_, atol=1e-5)
        assert other.objective_ == pytest.approx(model.objective_, rel=1e-9)

    def test_weights_are_repetitions_and_zero_is_missing(self, name, tables, rng):
        X, Y = tables
        weights = [rng.integers(0, 3, size=len(y)) for y in Y]
        weighted = make(name).fit(X, Y, sample_weight=weights)
        repeated = make(name).fit(
            [x.repeat(w, axis=0) for x, w in zip(X, weights, strict=True)],
            [y.repeat(w) for y, w in zip(Y, weights, strict=True)],
        )
        np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)

    def test_no_change_of_the_solution_lowers_the_objective(self, name, tables, rng):
        model = make(name, alpha=0.05)
        X, Y = tables
        problem = Problem.of(Moments.of(read_rows(model, X, Y)), "own", "none")
        solution = model.solve(problem, 0.05)
        assert solution.gap <= 1e-10 * solution.objective
        # A second solve from here, with the wrong strength before it, comes back to the same place.
        other = model.solve(problem, 0.5, solution.parts)
        again = model.solve(problem, 0.05, other.parts)
        assert again.objective == pytest.approx(solution.objective, rel=1e-10)

    def test_from_the_largest_strength_on_little_happens(self, name, tables):
        model = make(name)
        X, Y = tables
        problem = Problem.of(Moments.of(read_rows(model, X, Y)), "own", "inputs")
        largest = model.largest_alpha(problem)
        at, beyond = model.solve(problem, largest).coefficients, model.solve(problem, 10 * largest).coefficients
        np.testing.assert_allclose(at, beyond, atol=0.02 * np.abs(problem.cross).max())
        if name in ("trace_norm", "l21", "dirty", "robust", "low_rank_sparse", "elastic_net"):
            assert not beyond.any()
            assert model.solve(problem, 0.9 * largest).coefficients.any()

    def test_constant_labels_and_features(self, name):
        X = [np.ones((5, 2)), np.ones((4, 2))]
        model = make(name, scale="both").fit(X, [np.full(5, 3.0), np.full(4, 7.0)])
        np.testing.assert_allclose(model.predict(X)[1], 7.0)
        assert np.isfinite(model.coef_).all()

    def test_one_label_a_task(self, name):
        model = make(name).fit([np.eye(3)[:1], np.eye(3)[1:2]], [[1.0], [5.0]])
        if name != "pooled":
            np.testing.assert_allclose(model.intercept_ + (model.coef_ * np.eye(3)[:2]).sum(1), [1.0, 5.0])

    def test_score_is_mean_r2_of_what_is_observed(self, name, matrix):
        X, Y = matrix
        model = make(name).fit(X, Y)
        residual = np.nansum((Y - model.predict(X)) ** 2, 0) / np.nansum((Y - np.nanmean(Y, 0)) ** 2, 0)
        assert model.score(X, Y) == pytest.approx(np.mean(1 - residual))

    def test_settings_out_of_range(self, name, tables):
        for settings, words in [
            ({"alpha": -1.0}, "needs alpha to be"),
            ({"alpha": np.nan}, "needs alpha to be"),
            ({"alpha": None}, "needs alpha to be a finite number, zero or more, got None"),
            ({"alpha": "strong"}, "needs alpha to be"),
            ({"intercept": "mine"}, "needs intercept to be one of 'own', 'joint', 'none', got 'mine'"),
            ({"scale": "all"}, "needs scale to be one of"),
        ]:
            with pytest.raises(RecipeError, match=words):
                make(name, **settings).fit(*tables)


def test_complete_graph_is_mean_regularised(tables):
    X, Y = tables
    graph = GraphLaplacian(0.5, ridge=0.1, tol=1e-14).fit(X, Y)
    mean = MeanRegularised(0.6, ridge=0.1).fit(X, Y)
    np.testing.assert_allclose(graph.coef_, mean.coef_, atol=1e-6)
    given = GraphLaplacian(0.5, graph=np.full((4, 4), 0.25), ridge=0.1, tol=1e-14).fit(X, Y)
    np.testing.assert_allclose(given.coef_, graph.coef_, atol=1e-6)


def test_graph_without_edges_is_independent_and_strong_edges_agree(tables):
    X, Y = tables
    apart = GraphLaplacian(5.0, graph=np.zeros((4, 4)), ridge=0.1, tol=1e-14).fit(X, Y)
    np.testing.assert_allclose(apart.coef_, Independent(0.1).fit(X, Y).coef_, atol=1e-6)
    pair = np.zeros((4, 4))
    pair[0, 2] = pair[2, 0] = 1.0
    joined = GraphLaplacian(1e7, graph=pair, tol=1e-14).fit(X, Y).coef_
    np.testing.assert_allclose(joined[0], joined[2], atol=1e-5)
    assert np.abs(joined[0] - joined[1]).max() > 0.1


def test_graph_that_does_not_fit(tables):
    for graph, words in [
        (np.ones((3, 3)), r"shape \[4, 4\] for its 4 tasks, got \[3, 3\]"),
        (np.triu(np.ones((4, 4))), "symmetric"),
        (-np.ones((4, 4)), "none below zero"),
    ]:
        with pytest.raises(RecipeError, match=words):
            GraphLaplacian(graph=graph).fit(*tables)


def test_shared_rows_of_a_graph_take_one_step(rng):
    X, Y = rng.normal(size=(30, 5)), rng.normal(size=(30, 4))
    model = GraphLaplacian(0.3).fit(X, Y)
    assert model.n_iter_ == 1
    assert model.gap_ < 1e-12


def test_large_strength_loses_no_digits(tables):
    X, Y = tables
    pooled = Pooled(0.0, intercept="own").fit(X, Y)
    for alpha in (1e6, 1e9, 1e12):
        strong = MeanRegularised(alpha, ridge=0.0).fit(X, Y)
        np.testing.assert_allclose(strong.coef_, pooled.coef_, atol=10 / alpha + 1e-9)


@pytest.mark.parametrize(
    ("model", "parts"),
    [(Dirty, ("shared_", "private_")), (Robust, ("low_rank_", "outlier_")), (LowRankSparse, ("low_rank_", "sparse_"))],
)
def test_parts_sum_to_the_coefficients_in_the_users_units(model, parts, tables):
    X, Y = tables
    fitted = model(0.05, scale="both", intercept="joint").fit([x * 50 for x in X], Y)
    first, second = (getattr(fitted, part) for part in parts)
    assert first.shape == (4, 6)
    assert second.any()
    np.testing.assert_allclose(first + second, fitted.coef_, rtol=1e-12)


@pytest.mark.parametrize("settings", [{"ratio": 0.0}, {"ratio": -1.0}, {"alpha": 0.0}, {"tol": 0.0}, {"max_iter": 0}])
@pytest.mark.parametrize("model", [Dirty, Robust, LowRankSparse, Clustered])
def test_settings_of_two_parts(model, settings, tables):
    with pytest.raises(RecipeError, match=f"{model.__name__} needs {next(iter(settings))}"):
        model(**settings).fit(*tables)


def test_settings_of_one_model(tables):
    for model, words in [
        (Clustered(n_clusters=0), "n_clusters"),
        (Clustered(n_clusters=1.5), "n_clusters"),
        (ElasticNet(l1_ratio=0.0), "l1_ratio"),
        (ElasticNet(l1_ratio=1.5), "l1_ratio"),
        (MeanRegularised(ridge=-1.0), "ridge"),
        (MeanRegularised(alpha=0.0), "alpha"),
        (GraphLaplacian(ridge=0.0), "ridge"),
        (GraphLaplacian(tol=-1.0), "tol"),
        (GraphLaplacian(max_iter=0), "max_iter"),
    ]:
        with pytest.raises(RecipeError, match=f"needs {words} to be"):
            model.fit(*tables)


@pytest.mark.parametrize("model", [TraceNorm(0.01, max_iter=2), GraphLaplacian(10.0, max_iter=1, tol=1e-12)])
def test_an_unfinished_fit_says_so(model, tables):
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        fitted = model.fit(*tables)
    assert fitted.n_iter_ == model.max_iter
    assert fitted.gap_ > 1e-12


def test_gap_bounds_the_distance_to_the_optimum(tables):
    least = TraceNorm(0.05, tol=1e-13, max_iter=50_000).fit(*tables).objective_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for max_iter in (5, 20, 100):
            early = TraceNorm(0.05, max_iter=max_iter).fit(*tables)
            assert 0 <= early.objective_ - least <= early.gap_ + 1e-12


def test_hundred_tasks_of_few_rows(rng):
    W = np.outer(rng.normal(size=100), rng.normal(size=20))
    X = [rng.normal(size=(8, 20)) for _ in range(100)]
    Y = [x @ w + 0.1 * rng.normal(size=8) for x, w in zip(X, W, strict=True)]
    shared, alone = TraceNorm(0.3).fit(X, Y), Independent(1e-3).fit(X, Y)
    assert np.linalg.norm(shared.coef_ - W) < 0.5 * np.linalg.norm(alone.coef_ - W)


def test_labels_that_cannot_be_used(matrix, tables):
    X, Y = matrix
    infinite = Y.copy()
    infinite[0, 0] = np.inf
    nothing = Y.copy()
    nothing[:, [1, 3]] = np.nan
    tables_X, tables_Y = tables
    for inputs, labels, words in [
        (X, infinite, "TraceNorm cannot use the labels: .*infinity"),
        (X, nothing, "needs a label for every task, got none for tasks 1, 3"),
        (X, Y[:-1], r"40 rows of X, got y of shape \(39, 4\)"),
        (X, Y[None], "got y of shape"),
        (tables_X, tables_Y[:-1], "list of 4 tables, so it needs a list of as many y, got 3"),
        (tables_X, Y, "list of as many y, got a ndarray"),
        (tables_X, [*tables_Y[:-1], np.zeros(3)], r"20 rows of task 3, got y of shape \(3,\)"),
        (X, None, "requires y"),
    ]:
        with pytest.raises(TargetError, match=words):
            TraceNorm().fit(inputs, labels)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(39), "shape of the labels"),
        (-np.ones(40), "none below zero"),
        (np.full(40, np.nan), "finite"),
        (np.zeros(40), "not zero"),
        (["heavy"] * 40, "cannot use sample_weight"),
    ],
)
def test_weights_that_cannot_be_used(weights, words, matrix):
    with pytest.raises(TargetError, match=words):
        TraceNorm().fit(*matrix, sample_weight=weights)


def test_scores_of_labels_that_are_not_those_of_training(matrix, tables):
    X, Y = matrix
    model = TraceNorm(0.1).fit(X, Y)
    some = Y.copy()
    some[:, [0, 2]] = np.nan
    own = [
        model.score([X] * 4, [y if t == task else np.full(40, np.nan) for t, y in enumerate(Y.T)]) for task in (1, 3)
    ]
    assert model.score(X, some) == pytest.approx(np.mean(own))
    assert np.isnan(model.score(X, np.full_like(Y, np.nan)))
    for labels in (Y[:, :3], Y[:, 0], np.hstack([Y, Y])):
        with pytest.raises(TargetError, match="has 4 tasks and got labels of"):
            model.score(X, labels)


def test_mappings_are_refused_and_a_task_may_have_no_rows_to_predict(tables):
    X, Y = tables
    model = TraceNorm(0.1).fit(X, Y)
    with pytest.raises(InputError, match="list of one table per task"):
        TraceNorm().fit(dict(enumerate(X)), Y)
    with pytest.raises(TargetError, match="no mapping"):
        TraceNorm().fit(X[0], {"a": Y[0]})
    answers = model.predict([X[0], X[1][:0], *X[2:]])
    assert [len(a) for a in answers] == [12, 0, 7, 20]
    assert np.isfinite(model.score([X[0], X[1][:0], *X[2:]], [Y[0], Y[1][:0], *Y[2:]]))
    with pytest.raises(InputError, match="minimum of 1"):
        TraceNorm().fit([X[0], X[1][:0]], [Y[0], Y[1][:0]])


def test_inputs_that_cannot_be_used(tables):
    X, Y = tables
    hole = X[2].copy()
    hole[0, 0] = np.nan
    with pytest.raises(InputError, match=r"cannot use the inputs of task 2: .*NaN"):
        TraceNorm().fit([*X[:2], hole, X[3]], Y)
    with pytest.raises(InputError, match=r"inputs of task 1: .*6 features"):
        TraceNorm().fit([X[0], X[1][:, :5], *X[2:]], Y)
    fitted = TraceNorm().fit(X, Y)
    with pytest.raises(InputError, match=r"the inputs: .*6 features"):
        fitted.predict(X[0][:, :4])
    with pytest.raises(InputError, match="4 tasks and got 2 tables"):
        fitted.predict(X[:2])


def test_matrix_of_weights_is_per_label(matrix, rng):
    X, Y = matrix
    weights = rng.integers(0, 3, size=Y.shape).astype(float)
    together = L21(0.1, tol=1e-12).fit(X, Y, sample_weight=weights)
    each = L21(0.1, tol=1e-12).fit([X] * 4, list(Y.T), sample_weight=list(weights.T))
    np.testing.assert_allclose(together.coef_, each.coef_, atol=1e-8)
