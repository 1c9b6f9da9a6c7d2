from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from running_server import running

import polytask
from polytask import Recipe
from polytask.bundle import SCHEMA

SCHEMA_BUNDLE = Path(__file__).parents[2] / "fixtures" / "bundles" / f"schema-{SCHEMA}"


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def of_all_kinds():
    """A bundle with a model of every kind, and rows for it."""
    rows = json.loads((SCHEMA_BUNDLE / "answers.json").read_text())["rows"]
    return polytask.load(SCHEMA_BUNDLE), pd.DataFrame(rows)


def everything(n: int = 80) -> pd.DataFrame:
    """A column and a target of every kind, with holes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "length": np.where(rng.random(n) < 0.2, np.nan, x),
            "is_new": rng.random(n) < 0.5,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 500, n), "D"),
            "town": rng.choice(["Bern", "Graz <b>", "São Paulo", None], n),
            "code": rng.choice([1, 2, 3], n).astype(str),
            "price": 100 + 5 * x + rng.normal(size=n),
            "ill": np.where(x > 0, "yes", "no"),
            "visits": rng.poisson(np.exp(0.3 * x)),
            "stars": np.digitize(x, [-1, 0, 1]),
            "tag 1": x > 0.5,
            "tag 2": x < 0.3,
        }
    )


TASKS = {"price": {}, "ill": {}, "visits": {"kind": "count"}, "stars": {"kind": "ordinal"},
         "tags": {"kind": "multilabel", "target": ["tag 1", "tag 2"]}, "wait": {"kind": "quantile", "target": "price"}}  # fmt: skip
INPUTS = ["length", "is_new", "day", "town", "code"]


@pytest.fixture(scope="session")
def of_all_columns():
    """A bundle whose inputs are of every kind of column, and its table."""
    frame = everything()
    recipe = Recipe(tasks=TASKS, encoder={"name": "tabular", "width": 8}, training={"epochs": 1})
    return recipe.run(frame[[*INPUTS, "price", "ill", "visits", "stars", "tag 1", "tag 2"]]).bundle, frame


@pytest.fixture(scope="session")
def served(of_all_columns):
    with running(of_all_columns[0]) as (client, _):
        yield client


@pytest.fixture(scope="session")
def served_kinds(of_all_kinds):
    with running(of_all_kinds[0]) as (client, _):
        yield client
