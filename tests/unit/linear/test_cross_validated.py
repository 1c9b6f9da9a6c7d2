"""The cross-validated version of every model."""

import inspect
import pickle

import numpy as np
import pytest
from sklearn.model_selection import KFold, ShuffleSplit

import polytask.linear
from polytask.errors import RecipeError, TargetError
from polytask.linear import (
    DirtyCV,
    GraphLaplacianCV,
    IndependentCV,
    MeanRegularised,
    MeanRegularisedCV,
    PooledCV,
    TraceNorm,
    TraceNormCV,
    registry,
)
from polytask.linear.moments import Moments, Problem
from polytask.linear.rows import read_rows


@pytest.fixture
def tables(rng):
    common = rng.normal(size=5)
    X = [rng.normal(size=(n, 5)) for n in (20, 9, 14, 30)]
    return X, [x @ (common + 0.2 * rng.normal(size=5)) + 0.5 * rng.normal(size=len(x)) for x in X]


def folds_of(Y, n_folds):
    """Neighbouring rows, begun at another fold in each task."""
    return [(np.arange(len(y)) * n_folds // max(len(y), n_folds) + task) % n_folds for task, y in enumerate(Y)]


def held_out(model, X, Y, n_folds):
    """The mean squared error, by fitting the model on the rows of each fold."""
    fold_of = folds_of(Y, n_folds)
    errors = []
    for number in range(n_folds):
        model.fit([x[f != number] for x, f in zip(X, fold_of, strict=True)],
                  [y[f != number] for y, f in zip(Y, fold_of, strict=True)])  # fmt: skip
        predictions = model.predict([x[f == number] for x, f in zip(X, fold_of, strict=True)])
        truth = [y[f == number] for y, f in zip(Y, fold_of, strict=True)]
        errors.append(np.mean((np.concatenate(truth) - np.concatenate(predictions)) ** 2))
    return errors


@pytest.mark.parametrize("intercept", ["own", "joint", "none"])
def test_held_out_errors_are_those_of_refitting(intercept, tables):
    X, Y = tables
    alphas = [10.0, 0.3, 0.01]
    fitted = MeanRegularisedCV(alphas, ridge=[0.01, 0.5], cv=4, intercept=intercept).fit(X, Y)
    assert fitted.mse_path_.shape == (2, 3, 4)
    for number, ridge in enumerate([0.01, 0.5]):
        for place, alpha in enumerate(alphas):
            brute = held_out(MeanRegularised(alpha, ridge=ridge, intercept=intercept), X, Y, 4)
            np.testing.assert_allclose(fitted.mse_path_[number, place], brute, rtol=1e-6)
    weights = [sum((fold == number).sum() for fold in folds_of(Y, 4)) for number in range(4)]
    best = np.unravel_index(np.argmin(fitted.mse_path_ @ weights), (2, 3))
    assert (fitted.ridge_, fitted.alpha_) == ([0.01, 0.5][best[0]], alphas[best[1]])
    refitted = MeanRegularised(fitted.alpha_, ridge=fitted.ridge_, intercept=intercept).fit(X, Y)
    np.testing.assert_allclose(fitted.coef_, refitted.coef_)
    np.testing.assert_allclose(fitted.intercept_, refitted.intercept_)
    np.testing.assert_array_equal(fitted.model_.predict(X[0]), fitted.predict(X[0]))


@pytest.mark.parametrize("name", registry.names())
def test_every_model_chooses_a_strength_better_than_the_ends(name, tables):
    model_class = getattr(polytask.linear, f"{registry.load(name).__name__}CV")
    X, Y = tables
    fitted = model_class(alphas=12, cv=3, scale="inputs").fit(X, Y)
    chosen = np.nanmin(np.where(fitted.alphas_ == fitted.alpha_, fitted.mse_path_.mean(2), np.nan))
    assert chosen < fitted.mse_path_[:, 0].mean(1).min() + 1e-12
    assert fitted.score(X, Y) > 0.5
    assert fitted.coef_.shape == (4, 5)
    assert set(fitted.settings_[0]) == set(fitted.model_class.searched)


@pytest.mark.parametrize("name", registry.names())
def test_settings_are_those_of_the_model(name):
    model_class = registry.load(name)
    validated = getattr(polytask.linear, f"{model_class.__name__}CV")
    assert validated is getattr(polytask.linear, validated.__name__)
    theirs = set(inspect.signature(model_class).parameters) - {"alpha"}
    assert set(validated().get_params()) == theirs | {"alphas", "cv", "n_jobs"}
    assert validated.__name__ in dir(polytask.linear)
    assert model_class.__name__ in validated.__doc__
    assert pickle.loads(pickle.dumps(validated)) is validated
    with pytest.raises(TypeError, match="alpha"):
        validated(alpha=1.0)


@pytest.mark.slow
def test_warm_starts_and_two_processes_change_nothing(tables):
    one = TraceNormCV(alphas=8, cv=3, tol=1e-9).fit(*tables)
    two = TraceNormCV(alphas=8, cv=3, tol=1e-9, n_jobs=2).fit(*tables)
    np.testing.assert_array_equal(one.mse_path_, two.mse_path_)
    np.testing.assert_allclose(one.coef_, TraceNorm(one.alpha_, tol=1e-9).fit(*tables).coef_, atol=1e-5)


def test_a_path_ends_when_its_error_only_rises(rng):
    X = rng.normal(size=(30, 20))
    Y = 5 * rng.normal(size=(30, 6))
    fitted = TraceNormCV(alphas=30, cv=3).fit(X, Y)
    assert np.isnan(fitted.mse_path_).any()
    assert not np.isnan(fitted.mse_path_[:, :6]).any()
    assert fitted.alpha_ >= fitted.alphas_[0, 10]


def test_folds_of_a_matrix_are_those_of_the_splitter(rng):
    X, Y = rng.normal(size=(40, 4)), rng.normal(size=(40, 2))
    number = IndependentCV([1.0, 0.1], cv=4).fit(X, Y)
    splitter = IndependentCV([1.0, 0.1], cv=KFold(4)).fit(X, Y)
    pairs = IndependentCV([1.0, 0.1], cv=list(KFold(4).split(X))).fit(X, Y)
    np.testing.assert_array_equal(number.mse_path_, splitter.mse_path_)
    np.testing.assert_array_equal(number.mse_path_, pairs.mse_path_)


def test_splitter_splits_every_table(tables):
    fitted = PooledCV([1.0, 0.1], cv=ShuffleSplit(3, random_state=0)).fit(*tables)
    assert fitted.mse_path_.shape == (1, 2, 3)


def test_tasks_of_one_or_two_rows(rng):
    X = [rng.normal(size=(n, 3)) for n in (1, 2, 40, 40)]
    Y = [x.sum(1) + 0.1 * rng.normal(size=len(x)) for x in X]
    fitted = MeanRegularisedCV(cv=5, intercept="joint").fit(X, Y)
    assert np.isfinite(fitted.mse_path_).any(axis=1).all()
    np.testing.assert_allclose(fitted.coef_, 1.0, atol=0.2)


def test_missing_labels_are_not_held_out(tables):
    X, Y = tables
    extra = [np.vstack([x, np.zeros((5, 5))]) for x in X]
    missing = [np.concatenate([y, np.full(5, np.nan)]) for y in Y]
    np.testing.assert_allclose(
        IndependentCV([1.0, 0.1], cv=3).fit(extra, missing).mse_path_,
        IndependentCV([1.0, 0.1], cv=3).fit(X, Y).mse_path_,
    )


def test_graph_is_passed_on(tables):
    graph = np.ones((4, 4))
    fitted = GraphLaplacianCV(alphas=5, graph=graph, cv=3).fit(*tables)
    assert fitted.model_.graph is graph


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alphas": 0}, "alphas to be one or more"),
        ({"alphas": []}, "sequence of strengths above zero"),
        ({"alphas": [1.0, 0.0]}, "sequence of strengths above zero"),
        ({"alphas": 0.5}, "alphas to be a number of strengths"),
        ({"alphas": "many"}, "alphas to be a number of strengths"),
        ({"cv": 1}, "cv between 2 and"),
        ({"cv": 31}, r"largest task \(30\)"),
        ({"cv": "good"}, "cannot use cv"),
        ({"cv": [(np.arange(4), np.arange(4, 8))]}, "cv to be a number or a splitter for a list of tables"),
        ({"ratio": [0.5, -1.0]}, "ratio to be a finite number above zero"),
        ({"ratio": "much"}, "ratio to be a finite number above zero"),
    ],
)
def test_settings_out_of_range(settings, words, tables):
    with pytest.raises(RecipeError, match=words):
        DirtyCV(**{"cv": 3, **settings}).fit(*tables)


def test_no_cv_is_five_folds(tables):
    without, five = IndependentCV([1.0, 0.1], cv=None).fit(*tables), IndependentCV([1.0, 0.1], cv=5).fit(*tables)
    np.testing.assert_array_equal(without.mse_path_, five.mse_path_)


def test_nine_of_ten_labels_missing(rng):
    """Folds leave tasks without labels; scores skip tasks without labels."""
    X = rng.normal(size=(150, 4))
    Y = X @ (np.ones((4, 1)) + 0.1 * rng.normal(size=(4, 12))) + 0.3 * rng.normal(size=(150, 12))
    hidden = np.where(rng.random(Y.shape) < 0.9, np.nan, Y)
    hidden[:, 3] = np.nan
    hidden[7, 3] = Y[7, 3]
    fitted = MeanRegularisedCV(cv=5).fit(X, hidden)
    assert fitted.score(X, Y) > 0.9 > IndependentCV(cv=5).fit(X, hidden).score(X, Y)


def test_every_start_of_a_path_is_the_solution_before(tables):
    """Warm: fewer iterations than from zero, and the same optimum."""
    starts = []

    class Watched(TraceNorm):
        def solve(self, problem, alpha, start=None):
            starts.append(start)
            return super().solve(problem, alpha, start)

    model = Watched(tol=1e-6)
    problem = Problem.of(Moments.of(read_rows(model, *tables)), "own", "none")
    alphas = np.geomspace(model.largest_alpha(problem), 1e-3 * model.largest_alpha(problem), 20).tolist()
    warm = list(model.path(problem, alphas))
    assert starts[0] is None
    assert all(start is solution.parts for start, solution in zip(starts[1:], warm, strict=False))
    cold = [model.solve(problem, alpha) for alpha in alphas]
    assert sum(s.n_iter for s in warm) < 0.9 * sum(s.n_iter for s in cold)
    for one, other in zip(warm, cold, strict=True):
        assert one.objective == pytest.approx(other.objective, rel=3e-6)


def test_too_few_rows_for_the_splitter(tables):
    with pytest.raises(TargetError, match="cannot split the rows"):
        TraceNormCV(cv=KFold(12)).fit(*tables)
