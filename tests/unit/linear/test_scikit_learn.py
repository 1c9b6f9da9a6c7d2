"""Every model and its cross-validated version is a scikit-learn estimator."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import polytask.linear
from polytask.linear import registry

MODELS = [registry.load(name)() for name in registry.names()]
VALIDATED = [getattr(polytask.linear, f"{type(model).__name__}CV")(alphas=4, cv=2) for model in MODELS]


@parametrize_with_checks(MODELS + VALIDATED)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("model", MODELS + VALIDATED, ids=lambda model: type(model).__name__)
def test_pickle_and_clone_keep_settings_and_predictions(model, rng):
    X, Y = rng.normal(size=(30, 4)), rng.normal(size=(30, 3))
    fitted = clone(model).fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    assert again.get_params().keys() == model.get_params().keys()
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_grid_search_in_a_pipeline(rng):
    X = rng.normal(size=(60, 4))
    Y = X @ rng.normal(size=(4, 3)) + 0.1 * rng.normal(size=(60, 3))
    model = make_pipeline(StandardScaler(), polytask.linear.TraceNorm())
    search = GridSearchCV(model, {"tracenorm__alpha": [1e-3, 1e3]}, cv=KFold(3)).fit(X, Y)
    assert search.best_params_ == {"tracenorm__alpha": 1e-3}
    assert search.best_score_ > 0.9
