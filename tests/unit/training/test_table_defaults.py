"""What a table is trained with when the recipe does not say."""

import numpy as np
import pytest

from polytask import Recipe
from polytask.training.defaults import for_tables
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of


def table(n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    return {"x": x, "y": x + rng.normal(size=n)}


@pytest.mark.parametrize(("n", "size"), [(100, 64), (4_000, 128)])
def test_auto_is_the_ensemble_with_settings_by_the_number_of_training_rows(n, size):
    recipe = Recipe(tasks={"y": {"kind": "regression"}})
    plan = plan_of(recipe, prepare_recipe(recipe, table(n)))
    assert plan.encoder == "tabm"
    assert plan.settings.batch_size == size
    assert plan.settings.stop_rule == "mean"


def test_what_the_recipe_says_counts():
    recipe = Recipe(tasks={"y": {"kind": "regression"}}, training={"batch_size": 17, "stop_rule": "worst"}, seed=3)
    settings = plan_of(recipe, prepare_recipe(recipe, table(100))).settings
    assert (settings.batch_size, settings.stop_rule, settings.seed) == (17, "worst", 3)
    assert settings.learning_rate == for_tables(100)["learning_rate"]


@pytest.mark.parametrize(
    ("n", "training", "expected"),
    [
        (100, {}, (300, 16, 1.0, True)),
        (100, {"epochs": 40}, (40, 16, 1.0, True)),
        (100, {"dropout_fades": False}, (300, 16, 1.0, False)),
        (100, {"patience": 5}, (100, 5, 0.0, False)),
        (100, {"patience": None}, (100, None, 0.0, False)),
        (4_000, {}, (100, 16, 0.0, False)),
    ],
)
def test_a_small_table_is_waited_for_unless_the_recipe_has_a_patience(n, training, expected):
    recipe = Recipe(tasks={"y": {"kind": "regression"}}, training=training)
    settings = plan_of(recipe, prepare_recipe(recipe, table(n))).settings
    found = (settings.epochs, settings.patience, settings.patience_share, settings.dropout_fades)
    assert found == expected


def test_other_encoders_keep_the_common_settings():
    recipe = Recipe(tasks={"y": {"kind": "regression"}}, encoder="mlp")
    settings = plan_of(recipe, prepare_recipe(recipe, table(100))).settings
    assert (settings.batch_size, settings.learning_rate) == (256, 1e-3)
