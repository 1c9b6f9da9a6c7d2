"""An autoencoder task beside supervised ones: it learns from every row, also from those without any label."""

import numpy as np
import pandas as pd
import pytest

from polytask.bundle import load
from polytask.errors import DataError
from polytask.recipe import Recipe
from polytask.training.opening import prepare_recipe


def table(n_rows: int = 400, labelled: float = 0.2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n_rows, 2))
    inputs = hidden @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(n_rows, 6))
    frame = pd.DataFrame(inputs, columns=list("abcdef"))
    frame["town"] = np.where(hidden[:, 0] > 0, "Bern", "Graz")
    frame["y"] = np.where(rng.random(n_rows) < labelled, hidden[:, 1], np.nan)
    return frame


RECIPE = {
    "tasks": {"y": "regression", "inputs": {"kind": "reconstruction", "weight": 0.5}},
    "encoder": {"name": "tabular", "width": 32, "n_blocks": 1},
    "training": {"epochs": 15, "batch_size": 32, "learning_rate": 5e-3},
}


def test_every_row_has_the_inputs_as_targets() -> None:
    prepared = prepare_recipe(Recipe(**RECIPE), table())
    source = prepared.train["data"]
    assert source.coverage("inputs") == 1.0
    assert source.coverage("y") < 0.4
    assert source.targets["inputs"].shape == (len(source), 7)


def test_inputs_are_rebuilt_better_than_by_a_constant_and_the_bundle_answers(tmp_path) -> None:
    run = Recipe(**RECIPE).run(table(), out=tmp_path / "run")
    results = run.record.tasks
    assert results["inputs"].metrics["relative_error"] < 0.7
    assert results["y"].metrics["relative_error"] < 1.0
    answers = load(tmp_path / "run").predict(table().head(5))
    assert answers["inputs"].values.shape == (5, 7)


def test_alone_it_learns_from_rows_without_labels() -> None:
    recipe = Recipe(**{**RECIPE, "tasks": {"inputs": "reconstruction"}})
    run = recipe.run(table().drop(columns="y"))
    assert run.record.tasks["inputs"].metrics["relative_error"] < 0.7


def test_each_source_of_another_shape_needs_a_task_of_its_own() -> None:
    recipe = Recipe(**{**RECIPE, "encoder": "mlp", "tasks": {"y": "regression", "inputs": "reconstruction"}})
    frames = {"one": table().drop(columns="town"), "two": table().drop(columns=["town", "a"])}
    with pytest.raises(DataError, match="one such task for each source"):
        recipe.run(frames)
