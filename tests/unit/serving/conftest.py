from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from running_server import running
from serving_data import INPUTS, SCHEMA_BUNDLE, TASKS, everything

import polytask
from polytask import Recipe


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
