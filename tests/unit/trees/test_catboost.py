"""The adapter to CatBoost; all but the first tests need it installed."""

import builtins

import numpy as np
import pandas as pd
import pytest

from polytask.errors import InputError, MissingExtraError, RecipeError, TargetError
from polytask.trees import CatBoost

SMALL = {"n_estimators": 60, "learning_rate": 0.1, "n_jobs": 1, "random_state": 0}


def table(missing=0.5, n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    Y = np.column_stack([X[:, 0] + X[:, 1], 1000 * (X[:, 0] - X[:, 1]) + 500]) + 0.1 * rng.normal(size=(n, 2))
    return X, np.where(rng.random(Y.shape) < missing, np.nan, Y)


def test_without_catboost_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "catboost":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'polytask\[catboost\]'"):
        CatBoost().fit(*table())


class TestInstalled:
    @pytest.fixture(autouse=True)
    def catboost(self):
        return pytest.importorskip("catboost")

    @pytest.mark.parametrize("missing", [0.0, 0.5, 0.9])
    def test_tasks_of_any_units_are_learned_from_the_labels_that_are_there(self, missing):
        X, Y = table(missing, n=600)
        scores = CatBoost(**SMALL).fit(X, Y).task_scores(*table(0.0, seed=1))
        assert (scores > (0.5 if missing == 0.9 else 0.85)).all()

    def test_it_is_catboost_on_standardised_targets(self, catboost):
        X, Y = table(0.3)
        X, Y = X[~np.isnan(Y).all(axis=1)], Y[~np.isnan(Y).all(axis=1)]
        ours = CatBoost(**{**SMALL, "random_state": 3}).fit(X, Y)
        seed = int(np.random.RandomState(3).randint(np.iinfo(np.int32).max))
        mean, spread = np.nanmean(Y, axis=0), np.nanstd(Y, axis=0)
        options = {"n_estimators": 60, "learning_rate": 0.1, "depth": 6, "random_seed": seed, "thread_count": 1}
        loss = "MultiRMSEWithMissingValues"
        theirs = catboost.CatBoostRegressor(loss_function=loss, verbose=False, allow_writing_files=False, **options)
        theirs.fit(X.astype(np.float32), (Y - mean) / spread)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X) * spread + mean, rtol=1e-6, atol=1e-6)

    def test_a_hidden_label_has_no_effect(self):
        X, Y = table(0.5)
        empty = np.isnan(Y).all(axis=1)
        assert empty.any()
        with_empty, without = CatBoost(**SMALL).fit(X, Y), CatBoost(**SMALL).fit(X[~empty], Y[~empty])
        np.testing.assert_array_equal(with_empty.predict(X), without.predict(X))

    def test_forms_weights_and_a_hundred_tasks(self):
        X, Y = table()
        frame = pd.DataFrame(Y, columns=["a", "b"])
        model = CatBoost(task_weights={"a": 4}, **SMALL).fit(X, frame, sample_weight=np.ones(len(X)))
        assert list(model.predict(X).columns) == ["a", "b"]
        assert model.feature_importances_.sum() == pytest.approx(1.0)
        assert not hasattr(model, "predict_proba")
        assert CatBoost(**SMALL).fit(X, Y[:, 0]).predict(X).shape == (300,)
        many = np.where(np.random.default_rng(0).random((300, 100)) < 0.9, np.nan, X[:, [0]])
        assert np.isfinite(CatBoost(**{**SMALL, "n_estimators": 10}).fit(X, many).predict(X)).all()

    def test_a_weighty_task_is_fitted_closer(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(300, 4))
        Y = rng.normal(size=(300, 2)) + X[:, :2]
        even, heavy = (CatBoost(task_weights=w, **SMALL).fit(X, Y).task_scores(X, Y) for w in ([1, 1], [1, 100]))
        assert heavy[1] > even[1]
        assert heavy[0] < even[0]

    def test_what_does_not_vary_is_its_mean(self):
        X, Y = table()
        Y = np.column_stack([np.full(len(X), 7.0), Y, np.r_[3.0, np.full(len(X) - 1, np.nan)]])
        predicted = CatBoost(**SMALL).fit(X, Y).predict(X)
        np.testing.assert_array_equal(predicted[:, [0, 3]], np.tile([7.0, 3.0], (len(X), 1)))
        assert predicted[:, 1].std() > 0.5
        same = CatBoost(**SMALL).fit(np.ones_like(X), Y).predict(np.ones_like(X))
        np.testing.assert_allclose(same[:, 1], np.nanmean(Y[:, 1]))
        assert CatBoost(**SMALL).fit(X[:1], [2.0]).predict(X[:1]).tolist() == [2.0]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"depth": 99}, "depth is 16"),
            ({"options": {"no_such": 1}}, "no_such"),
            ({"learning_rate": "fast"}, "learning_rate"),
            ({"task_weights": [0, 1]}, "above zero"),
            ({"task_weights": [1]}, "task_weights"),
        ],
    )
    def test_bad_options(self, options, words):
        with pytest.raises(RecipeError, match=words):
            CatBoost(**{**SMALL, **options}).fit(*table())

    def test_bad_data(self):
        X, Y = table()
        with pytest.raises(TargetError, match="text"):
            CatBoost(**SMALL).fit(X, np.array(["a", "b"] * 150))
        with pytest.raises(TargetError, match="no observed label"):
            CatBoost(**SMALL).fit(X, np.column_stack([Y, np.full(len(X), np.nan)]))
        with pytest.raises(InputError, match="3 features"):
            CatBoost(**SMALL).fit(X, Y).predict(X[:, :3])
