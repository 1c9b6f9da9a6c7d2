"""``polytask study`` of a recipe that names two files, each a source with rows, inputs and tasks of its own."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from polytask import Recipe


@pytest.fixture
def recipe(tmp_path):
    """Mines and farms: both measured at places, the farms at fewer and with a column of their own."""
    rng = np.random.default_rng(3)
    mines = pd.DataFrame(rng.normal(size=(80, 2)), columns=["depth", "wet"]).assign(place=np.arange(80) // 2)
    farms = pd.DataFrame(rng.normal(size=(60, 2)), columns=["wet", "sun"]).assign(place=np.arange(60) // 2)
    mines["zinc"] = mines["depth"] + mines["wet"] + 0.2 * rng.normal(size=80)
    farms["yield"] = farms["sun"] - farms["wet"] + 0.2 * rng.normal(size=60)
    mines.to_csv(tmp_path / "mines.csv", index=False)
    farms.to_csv(tmp_path / "farms.csv", index=False)
    Recipe(
        tasks={"zinc": {"source": "mines"}, "yield": {"source": "farms"}},
        data={name: {"path": str(tmp_path / f"{name}.csv")} for name in ("mines", "farms")},
        split={"method": "grouped", "column": "place"},
        encoder={"name": "tabular", "width": 8, "n_blocks": 1},
        training={"epochs": 2, "batch_size": 32},
    ).save(tmp_path / "recipe.yaml")
    return tmp_path / "recipe.yaml"


def test_two_sources_of_a_recipe(polytask, recipe, tmp_path):
    more = ("--arms", "single,joint,linear", "--folds", 2, "--budget", "none", "--workers", 1)
    out = tmp_path / "run"
    done = polytask("study", recipe, *more, "--set", "training.epochs=3", "--out", out)
    assert done.code == 0, done.err
    assert "zinc" in done.out
    assert "yield" in done.out
    assert f"Record: {out / 'study.json'}" in done.out
    assert (out / "page.html").exists()
    record = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert set(record["verdicts"]) == {"zinc", "yield"}
    assert {task: described["n_labels"] for task, described in record["tasks"].items()} == {"zinc": 80, "yield": 60}
    assert record["data"]["sources"]["farms"]["inputs"] == ["wet", "sun"], "the column of groups is no input"
    assert record["settings"]["group"] == "place", "as the recipe says"
    assert record["settings"]["recipe"]["training"]["epochs"] == 3, "--set changes the recipe"
    assert record["arms"]["linear"]["error"]["zinc"]["mean"] < 0.3

    answers = tmp_path / "answers.csv"
    asked = polytask("predict", out, tmp_path / "farms.csv", "--source", "farms", "--out", answers)
    assert asked.code == 0, asked.err
    told = pd.read_csv(answers)["yield"]
    assert np.corrcoef(told, pd.read_csv(tmp_path / "farms.csv")["yield"])[0, 1] > 0.8


def test_a_recipe_names_its_own_tasks(polytask, recipe, tmp_path):
    refused = polytask("study", recipe, "--targets", "zinc", "--out", tmp_path / "run")
    assert refused.code == 2
    assert "give either a recipe or --targets" in refused.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--trials", 5), "--trials needs a search"),
        (("--objective", "tasks", "--trials", 5), "--trials and --objective needs a search"),
        (("--holdout", 0.2, "--folds", 3), "(--folds or --holdout)"),
        (("--split", "part", "--folds", 3), "(--folds or --split)"),
        (("--time", "day", "--repeats", 2), "cannot be repeated 2 times"),
    ],
)
def test_options_that_would_change_nothing_are_refused(polytask, tmp_path, asked, message):
    refused = polytask("study", tmp_path / "any.csv", "--targets", "a,b", *asked)
    assert refused.code == 2
    assert message in refused.err


@pytest.fixture
def table(tmp_path):
    """Two targets, and a column of texts that no model reads."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(90, 3)), columns=["a", "b", "c"])
    frame["remark"] = [f"row {i} says {rng.integers(1000)}" for i in range(90)]
    frame["y"] = frame["a"] + 0.2 * rng.normal(size=90)
    frame["claims"] = rng.poisson(np.exp(0.3 * frame["b"]))
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


QUICK = ("--folds", 2, "--budget", "none", "--workers", 1, "--set", "training.epochs=2", "--set", "encoder=mlp")


def test_what_is_inferred_and_left_out_is_said_after_a_typo_was_refused(polytask, table, tmp_path):
    out = tmp_path / "run"
    asked = ("study", table, "--targets", "y,claims:count", *QUICK, "--out", out)
    refused = polytask(*asked, "--arms", "single,linear,joint:mmoe@2")
    assert refused.code == 2, refused.err
    assert "ratio" in refused.err
    assert not (out / "folds").exists()

    done = polytask(*asked, "--arms", "single,linear,joint:mmoe")
    assert done.code == 0, done.err
    record = json.loads((out / "study.json").read_text(encoding="utf-8"))
    page = (out / "page.html").read_text(encoding="utf-8")
    kind = "Task 'y' is taken as regression"
    column = "Column 'remark' is left out: its texts are nearly all different; --set kinds.remark=words"
    for text in (kind, column):
        assert f"Note: {text}" in done.out
    assert kind in record["tasks"]["y"]["note"]
    assert any(column in one["words"] for one in record["warnings"])
    assert "is taken as regression" in page
    assert "remark" in page


def with_value(table, value):
    frame = pd.read_csv(table, dtype=str)
    frame.loc[89, "a"] = value
    frame.to_csv(table, index=False)
    return table


@pytest.mark.parametrize(
    ("value", "message"),
    [("inf", "Column 'a', row 89: the value is infinite"), ("1e300", "Column 'a', row 89: 1e+300 is too large")],
)
def test_a_value_that_is_infinite_or_huge_is_named(polytask, table, value, message):
    refused = polytask("study", with_value(table, value), "--targets", "y,claims", *QUICK, "--arms", "single,linear")
    assert refused.code == 2, refused.err
    assert message in refused.err


def test_a_huge_value_of_a_fit_is_no_warning_of_a_library(polytask, table):
    done = polytask("fit", with_value(table, "1e300"), "--targets", "y,claims", "--set", "training.epochs=1")
    assert done.code == 0, done.err
    assert "Warning" not in done.err
