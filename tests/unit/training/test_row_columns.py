"""Columns that say something about rows: values of mixed types, lists, columns that are not there."""

import numpy as np
import pandas as pd
import pytest

from polytask import Recipe
from polytask.errors import DataError, InputError, RecipeError
from polytask.training.data_sets import ArrayData
from polytask.training.opening import prepare_recipe

MIXED = [1, "1", "a", 2.5, "ü", 0]
BY = "sold.positive_rate by who within 0.5"
BRIEF = {"epochs": 1}


def table(n: int = 90) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n)})
    frame["price"], frame["sold"] = frame["a"] + 0.1 * rng.normal(size=n), (frame["b"] > 0).astype(int)
    frame["who"] = pd.Series([MIXED[i % len(MIXED)] for i in range(n)], dtype=object)
    return frame


def recipe(**settings) -> Recipe:
    return Recipe(tasks=["price", "sold"], data={"data": {"drop": ["who"]}}, training=BRIEF, **settings)


def kinds_of(values) -> set[tuple[str, str]]:
    return {(type(value).__name__, str(value)) for value in values}


def test_groups_of_mixed_types_are_on_one_side_each_and_1_is_not_the_text_1():
    frame = table()
    split = prepare_recipe(recipe(split={"method": "grouped", "column": "who"}), frame).splits["data"]
    parts = [kinds_of(frame["who"].iloc[rows]) for rows in (split.train, split.validation, split.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(kinds_of(MIXED)) == len(set().union(*parts))


def test_groups_of_mixed_types_are_on_one_side_over_several_sources_too():
    frame = table()
    rows = {"left": frame.drop(columns="sold"), "right": frame[::-1].reset_index(drop=True).drop(columns="price")}
    made = Recipe(tasks=["price", "sold"], split={"method": "grouped", "column": "who"})
    splits = prepare_recipe(made, rows).splits
    sides = [
        set().union(*(kinds_of(rows[name]["who"].iloc[getattr(split, part)]) for name, split in splits.items()))
        for part in ("train", "validation", "test")
    ]
    assert sum(map(len, sides)) == len(kinds_of(MIXED))


def test_a_constraint_between_groups_of_mixed_types_names_each_as_another():
    record = recipe(constraints=[BY]).run(table()).record
    assert len(record.constraints) == len(MIXED) * (len(MIXED) - 1)
    assert "sold.positive_rate (who: 1 - '1')<=0.5" in record.constraints


def test_a_column_of_groups_without_any_value_is_named():
    with pytest.raises(RecipeError, match=r"A constraint by 'who' .* have no value at all in that column"):
        recipe(constraints=[BY]).run(table().assign(who=np.nan))


def test_lists_are_no_groups_and_no_obstacle_where_they_are_dropped():
    frame = table().assign(who=[[row % 3] for row in range(90)])
    for settings in ({"split": {"method": "grouped", "column": "who"}}, {"constraints": [BY]}):
        with pytest.raises(DataError, match=r"Column 'who' needs one value a row .* row 0 has \[0\]"):
            prepare_recipe(recipe(**settings), frame)
    described = [
        prepare_recipe(recipe(), f).data["data"]["sha256"] for f in (frame, frame, frame.assign(who=[[1]] * 90))
    ]
    assert described[0] == described[1] != described[2]


@pytest.mark.parametrize("option", ["row_weights", "ranked_by"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(option):
    made = Recipe(tasks={"price": {option: "whom"}})
    with pytest.raises(DataError, match=f"'whom', for {option} of task 'price'. Did you mean 'who'\\? Known: a, b, "):
        prepare_recipe(made, table())


@pytest.mark.parametrize("inputs", [{}, 3, {"x": np.float32(1.0)}])
def test_arrays_without_rows_are_refused(inputs):
    with pytest.raises(InputError, match="Source 'it' needs inputs of N rows"):
        ArrayData("it", inputs, {"y": np.arange(3.0)})


def test_a_column_that_is_read_whole_can_be_ranked_by_too():
    frame = pd.DataFrame({"text": ["one two", "two one", "one one"] * 20, "y": np.arange(60.0)})
    data = {"data": {"reads": "text"}}
    made = Recipe(
        tasks={"y": {"kind": "regression", "ranked_by": "text"}}, data=data, encoder={"name": "bigru", "width": 4}
    )
    (train,) = prepare_recipe(made, frame).train.values()
    assert sorted(set(train.ranked["y"].tolist())) == [0, 1, 2]
