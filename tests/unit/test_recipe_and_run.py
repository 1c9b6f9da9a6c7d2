"""Recipes as data, and what a run makes of every kind of table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe
from polytask.errors import DataError, InputError, RecipeError, TargetError
from polytask.tasks import registry
from polytask.training.data_sets import ArrayData, TableData
from polytask.training.dividing import splitter_of
from polytask.training.opening import make_tasks, open_data, prepare_recipe
from polytask.training.planning import plan_of
from polytask.training.preparation import prepare

QUICK = {"epochs": 2, "batch_size": 16}
SMALL = {"name": "tabular", "width": 8, "n_blocks": 1}


def table(n: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    frame = pd.DataFrame(
        {
            "a": x[:, 0],
            "b": np.where(rng.random(n) < 0.2, np.nan, x[:, 1]),
            "c": rng.choice(["red", "green", None], n),
            "day": pd.date_range("2024-01-01", periods=n).astype(str),
            "price": 100 + 5 * x[:, 0] + rng.normal(size=n),
            "ill": np.where(x[:, 1] > 0, "yes", "no"),
            "kind": rng.choice(["cat", "dog", "bird"], n),
            "visits": rng.poisson(np.exp(0.3 * x[:, 0])),
            "grade": rng.choice(["low", "mid", "high"], n),
            "tag1": rng.integers(0, 2, n),
            "tag2": rng.integers(0, 2, n),
            "load": x[:, 0] + rng.normal(size=n),
            "weight": rng.random(n) + 0.5,
        }
    )
    for name in ("price", "ill", "kind", "visits", "grade", "tag1", "tag2", "load"):
        frame[name] = frame[name].astype(object).where(rng.random(n) > 0.3, None)
    return frame


EVERY_KIND = {
    "price": "regression",
    "ill": "binary",
    "kind": "multiclass",
    "visits": "count",
    "grade": {"kind": "ordinal", "order": ["low", "mid", "high"]},
    "tags": {"kind": "multilabel", "target": ["tag1", "tag2"]},
    "load": {"kind": "quantile"},
}


@pytest.mark.parametrize("sharing", ["hard", {"name": "hard", "ratio": 0.5}, "mmoe"])
@pytest.mark.parametrize("balancer", ["equal", "uncertainty", "pcgrad"])
def test_all_kinds_of_tasks_in_one_table(sharing, balancer, tmp_path):
    recipe = Recipe(tasks=EVERY_KIND, encoder=SMALL, sharing=sharing, balancer=balancer, training=QUICK,
                    data={"data": {"drop": ["weight"]}})  # fmt: skip
    run = recipe.run(table(), out=tmp_path / "run")
    assert set(run.record.tasks) == set(EVERY_KIND)
    for result in run.record.tasks.values():
        assert 0 < result.n_test <= 2 * 16
        assert result.metrics["relative_error"] > 0
    assert set(run.history[-1]["weights"]) == set(EVERY_KIND)
    answers = run.predict(table(seed=1))
    assert set(answers["ill"].values) <= {"yes", "no"}
    assert answers["tags"].values.shape == (80, 2)
    assert (answers["visits"].values >= 0).all()
    assert json.loads((tmp_path / "run" / "record.json").read_text())["tasks"]["price"]["kind"] == "regression"
    assert list(run.table()["task"]) == list(EVERY_KIND)


def test_kinds_are_inferred_and_the_notes_say_why():
    run = Recipe(tasks=["price", "ill", "kind"], encoder=SMALL, training=QUICK).run(table())
    assert [task.kind for task in run.bundle.tasks] == ["regression", "binary", "multiclass"]
    assert [note for note in run.record.notes if note.startswith("Task 'ill' is taken as binary")]


def test_two_runs_are_equal_bit_for_bit_and_leave_the_generator_alone():
    recipe = Recipe(tasks=EVERY_KIND, encoder={**SMALL, "dropout": 0.2}, balancer="rlw", training=QUICK, seed=11)
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    first = recipe.run(table())
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(7)
    second = recipe.run(table())
    one, two = (run.bundle.models[0].model.state_dict() for run in (first, second))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    other = Recipe(**{**recipe.plain(), "seed": 12}).run(table()).bundle.models[0].model.state_dict()
    assert not all(torch.equal(value, other[name]) for name, value in one.items() if value.is_floating_point())


def test_a_task_with_its_own_inputs_sees_nothing_else():
    frame = table()
    tasks = {"price": {"kind": "regression", "inputs": ["a"]}, "load": {"kind": "regression", "inputs": ["a", "c"]}}
    run = Recipe(tasks={**tasks, "ill": "binary"}, encoder=SMALL, training=QUICK).run(frame)
    new = frame.drop(columns=["price", "load", "ill"])
    before, after = run.predict(new), run.predict(new.assign(b=1e3, c="green"))
    np.testing.assert_array_equal(before["price"].values, after["price"].values)
    assert not np.array_equal(before["load"].values, after["load"].values)
    assert not np.array_equal(before["ill"].probabilities, after["ill"].probabilities)
    with pytest.raises(InputError, match="No input column of 'data' named 'z', for the inputs of task 'price'"):
        Recipe(tasks={"price": {"kind": "regression", "inputs": ["z"]}}).run(frame)


def test_several_sources_with_their_own_inputs_and_tasks():
    first = table()[["a", "b", "price"]]
    second = table(60, 1)[["c", "day", "ill", "price"]]
    tasks = {"price": {"kind": "regression", "source": "first"}, "ill": "binary"}
    run = Recipe(tasks=tasks, data={"second": {"drop": ["price"]}}, encoder=SMALL, training=QUICK).run(
        {"first": first, "second": second}
    )
    assert run.bundle.sources == ("first", "second")
    assert run.record.sampling == "first: 4 batches, 1.0 passes; second: 3 batches, 1.0 passes"
    assert run.record.tasks["price"].n_train <= 52
    assert len(run.predict(first, "first")["price"].values) == 80
    with pytest.raises(InputError, match="say which one"):
        run.predict(first)
    with pytest.raises(RecipeError, match="No source named 'third'"):
        run.predict(first, "third")


def test_a_source_without_a_task_and_a_task_without_a_source():
    frames = {"first": table()[["a", "price"]], "second": table()[["b", "c"]]}
    with pytest.raises(DataError, match="Source 'second' has no labels of any task"):
        Recipe(tasks=["price"]).run(frames)
    with pytest.raises(TargetError, match=r"No source named 'frist'. Did you mean 'first'"):
        Recipe(tasks={"price": {"source": "frist"}}).run({"first": frames["first"]})


def test_arrays_and_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 12, 12), dtype=np.uint8)
    data = ArrayData("digits", images, {"digit": rng.integers(0, 3, 60), "ink": images.mean((1, 2))})
    recipe = Recipe(tasks={"digit": "multiclass", "ink": "regression"}, training=QUICK)
    run = recipe.run(data)
    assert run.bundle.models[0].spec.encoder == "cnn"
    assert run.predict(images)["digit"].probabilities.shape == (60, 3)
    with pytest.raises(InputError, match=r"shape \(12, 12\) a row; got \(14, 12\)"):
        run.predict(rng.integers(0, 256, (5, 14, 12), dtype=np.uint8))
    with pytest.raises(InputError, match="NaN or infinity"):
        recipe.run(ArrayData("digits", np.full((60, 4), np.nan), dict(data._labels)))


def test_one_task_and_a_hundred():
    frame = table()
    assert Recipe(tasks=["price"], encoder=SMALL, training=QUICK).run(frame[["a", "b", "price"]]).record.epochs == 2
    rng = np.random.default_rng(0)
    many = pd.DataFrame(rng.normal(size=(60, 100)), columns=[f"t{i}" for i in range(100)])
    many = many.mask(rng.random(many.shape) < 0.5).assign(x=rng.normal(size=60), y=rng.normal(size=60))
    tasks = {f"t{i}": "regression" for i in range(100)}
    run = Recipe(tasks=tasks, encoder=SMALL, training=QUICK).run(many)
    assert len(run.record.tasks) == 100


def test_row_weights_are_no_input_and_have_an_effect():
    frame = table()
    recipe = Recipe(
        tasks=["price", "ill"],
        data={"data": {"row_weights": "weight"}},
        encoder=SMALL,
        training={**QUICK, "patience": None},
    )
    one, two = recipe.run(frame), recipe.run(frame.assign(weight=frame["weight"].to_numpy()[::-1]))
    assert "weight" not in one.bundle.transforms["data"].names
    assert one.history[0]["train"] != two.history[0]["train"]
    with pytest.raises(InputError, match="Row weights"):
        recipe.run(frame.assign(weight=-1.0))


def test_a_class_that_only_held_out_rows_have_counts_as_missing_there():
    frame = table()
    frame["kind"] = ["cat", "dog"] * 39 + ["yeti", None]
    tasks = {"kind": "multiclass", "price": "regression"}
    prepared = prepare_recipe(Recipe(tasks=tasks, split={"method": "time", "column": "day"}), frame)
    assert prepared.tasks[0].classes_.names == ("cat", "dog")
    assert int(prepared.test["data"].observed["kind"].sum()) == 14
    assert any("1 labels of task 'kind'" in note and "yeti (1)" in note for note in prepared.notes)
    with pytest.raises(TargetError, match="knows no class 'yeti'"):
        prepare_recipe(
            Recipe(
                tasks={"kind": {"kind": "multiclass", "classes": ["cat", "dog"]}, "price": "regression"},
                split={"method": "time", "column": "day"},
            ),
            frame,
        )


def test_a_task_without_held_out_labels_is_noted():
    frame = table()
    frame.loc[60:, "price"] = None
    recipe = Recipe(tasks=["price", "ill"], split={"method": "time", "column": "day"}, encoder=SMALL, training=QUICK)
    run = recipe.run(frame)
    assert "No test row has a label of price: they have no test metric." in run.record.notes
    assert run.record.tasks["price"].metrics.get("r2") is None


@pytest.mark.parametrize("method", ["random", "stratified", "grouped", "time"])
def test_splits(method):
    frame = table().assign(group=np.arange(80) // 4)
    split = {"method": method, "validation": 0.2, "test": 0.2}
    if method in ("grouped", "time"):
        split["column"] = {"grouped": "group", "time": "day"}[method]
    recipe = Recipe(tasks=["price", "ill"], split=split)
    found = prepare_recipe(recipe, frame).splits["data"]
    assert sorted([*found.train, *found.validation, *found.test]) == list(range(80))
    if method == "grouped":
        groups = [set(frame["group"].iloc[rows]) for rows in (found.train, found.validation, found.test)]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 20
    if method == "time":
        assert found.train.max() < found.validation.min() < found.test.min()


def test_codecs_and_transforms_see_training_rows_only():
    frame = table()
    recipe = Recipe(tasks={"price": "regression"}, data={"data": {"inputs": ["a"], "scaling": "standard"}}, seed=4)
    split = prepare_recipe(recipe, frame).splits["data"]
    spoilt = frame.copy()
    held = np.concatenate([split.validation, split.test])
    spoilt.loc[held, "a"] = 1e6
    spoilt.loc[held, "price"] = 1e6
    one, two = (prepare_recipe(recipe, data) for data in (frame, spoilt))
    assert one.tasks[0].state() == two.tasks[0].state()
    assert one.transforms["data"].state() == two.transforms["data"].state()


def test_recipes_as_data(tmp_path):
    recipe = Recipe(
        tasks={"a": {"kind": "binary", "weight": 2.0}, "b": {}},
        data={"main": {"path": "x.csv", "drop": ["id"], "inputs": None}},
        sharing={"name": "mmoe", "n_experts": 4},
        training={"epochs": 3, "regularisers": [{"penalty": "l1", "strength": 0.1}]},
        split={"method": "grouped", "column": "patient"},
    )
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    assert Recipe.load(tmp_path / "recipe.yaml").hash() == recipe.hash()
    assert Recipe(**json.loads(json.dumps(recipe.plain()))) == recipe
    assert Recipe(tasks=["a", "b"]).hash() == Recipe(tasks={"a": {}, "b": {}}, sharing="hard", seed=0).hash()
    assert Recipe(tasks=["a", "b"]).hash() != Recipe(tasks=["b", "a"]).hash()
    assert Recipe(tasks=["a"], sharing={"ratio": 0.5}) == Recipe(tasks=["a"], sharing={"name": "hard", "ratio": 0.5})
    assert Recipe(tasks="a") == Recipe(tasks=["a"])
    assert Recipe(tasks=[{"name": "a", "kind": "count"}]) == Recipe(tasks={"a": "count"})
    assert Recipe(tasks=["a"], data="x.csv") == Recipe(tasks=["a"], data={"path": "x.csv"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": []}, "at least one task"),
        ({"tasks": ["a"], "taks": 1}, "Did you mean 'tasks'"),
        ({"tasks": ["a"], "seed": "x"}, "seed needs a whole number, got 'x'"),
        ({"tasks": ["a"], "split": {"method": "grouped"}}, "needs a column"),
        ({"tasks": ["a"], "split": {"validation": 0.6, "test": 0.6}}, "no row for training"),
        ({"tasks": ["a"], "split": {"method": "fair"}}, "split.method"),
        ({"tasks": ["a"], "data": {"x": {"pth": "a.csv"}}}, "No setting named 'pth', for data.x. Did you mean 'path'"),
        ({"tasks": ["a"], "training": {"epochs": 0}}, "epochs must be at least 1"),
        ({"tasks": 3}, "tasks"),
        ({"tasks": ["a"], "head_hidden": [8, 0]}, "head_hidden.1 needs a number of at least 1, got 0"),
    ],
)
def test_recipes_that_cannot_be_used(settings, message):
    with pytest.raises(RecipeError, match=message):
        Recipe(**settings)


def test_what_can_be_given_as_data():
    frame = table()[["a", "b", "price", "ill"]]
    recipe = Recipe(tasks=["price", "ill"])
    assert [d.name for d in open_data(recipe, frame)] == ["data"]
    assert [d.name for d in open_data(recipe, {"x": frame, "y": frame})] == ["x", "y"]
    columns = {name: frame[name].to_numpy() for name in frame}
    assert [d.name for d in open_data(recipe, columns)] == ["data"]
    with pytest.raises(RecipeError, match="names no data"):
        open_data(recipe, None)


def test_names_come_once():
    frame = table()[["a", "price"]]
    recipe = Recipe(tasks=["price"])
    data = [TableData("x", frame, targets=["price"]), TableData("x", frame, targets=["price"])]
    tasks = make_tasks(recipe, data)[0]
    with pytest.raises(DataError, match="x comes twice"):
        prepare(data, tasks, splitter_of(recipe.split, 0, data, tasks))


def test_the_encoder_fits_the_inputs():
    rng = np.random.default_rng(0)
    labels = {"t": rng.normal(size=40)}
    found = {}
    for name, inputs in {
        "mlp": rng.normal(size=(40, 5)).astype(np.float32),
        "cnn": rng.normal(size=(40, 1, 12, 12)).astype(np.float32),
    }.items():
        recipe = Recipe(tasks={"t": "regression"})
        found[name] = plan_of(recipe, prepare_recipe(recipe, ArrayData("d", inputs, labels))).encoder
    assert found == {"mlp": "mlp", "cnn": "cnn"}


def test_one_model_a_task_beside(tmp_path):
    recipe = Recipe(tasks=["price", "ill"], encoder=SMALL, training=QUICK)
    frame = table().dropna(subset=["price"])  # a model of one task is trained on the rows that have its label
    run = recipe.run(frame, compare=True)
    assert all(result.single["relative_error"] > 0 for result in run.record.tasks.values())
    alone = Recipe(tasks=["price"], encoder=SMALL, training=QUICK, data={"data": {"drop": ["ill"]}}).run(frame)
    assert alone.record.tasks["price"].metrics == run.record.tasks["price"].single


def test_a_list_of_tasks_names_none_twice():
    with pytest.raises(RecipeError, match="price comes twice"):
        Recipe(tasks=["price", "price"])


def test_the_options_of_a_task_may_have_its_name_and_no_other():
    made = registry.create("count", name="price", weight=2.0)
    assert Recipe(tasks={"price": made.options()}).tasks["price"]["weight"] == 2.0
    recipe = Recipe(
        tasks={"price": registry.create("regression", name="price").options()}, encoder=SMALL, training=QUICK
    )
    assert recipe.run(table()).record.tasks["price"].kind == "regression"
    with pytest.raises(RecipeError, match=r"task 'cost' has options with the name 'price'\. Take that out"):
        Recipe(tasks={"cost": made.options()})


def test_a_hundred_inferred_tasks_are_said_in_a_sentence():
    values = np.random.default_rng(0).normal(size=(20, 100))
    frame = pd.DataFrame(values, columns=[f"y{i}" for i in range(100)]).assign(x=1.0, yes=np.arange(20) % 2)
    recipe = Recipe(tasks=[*frame.columns[:100], "yes"])
    tasks, notes = make_tasks(recipe, open_data(recipe, frame))
    assert len(tasks) == 101
    assert [note[:20] for note in notes] == ["Tasks 'y0', 'y1', 'y", "Task 'yes' is taken "]
    assert "'y3' and 96 more are taken as regression, each by its labels; 'y0': numbers with fractions" in notes[0]


def test_an_epoch_of_few_steps_is_noted_with_what_to_do():
    def notes(**training):
        made = Recipe(tasks={"price": "regression"}, encoder=SMALL, training={"epochs": 2, **training})
        return [note for note in made.run(table(100).dropna(subset=["price"])).record.notes if "An epoch is" in note]

    (note,) = notes(batch_size=64)
    assert note.startswith("An epoch is 1 step only (")
    assert "the 2 epochs changed the parameters 2 times" in note
    assert note.endswith("such as --set training.batch_size=4.")
    assert notes(batch_size=4) == []


def test_a_task_of_weight_0_without_a_constraint_is_noted():
    def notes(**settings):
        tasks = {"price": {"kind": "regression", "weight": 0}, "ill": "binary"}
        made = Recipe(tasks=tasks, encoder=SMALL, training={"epochs": 1, "batch_size": 8}, **settings)
        return [note for note in made.run(table()).record.notes if "Weight 0" in note]

    (note,) = notes()
    assert "nothing was learned for price." in note
    assert notes(constraints=["price.loss<=9"]) == []


@pytest.mark.parametrize("order", [["price", "ill"], ["ill", "price"]])
def test_few_steps_are_counted_by_the_stages_that_have_them(order):
    tasks = {"price": "regression", "ill": "binary"}
    frame = table(300)
    frame.loc[30:, "ill"] = None
    training = {"epochs": 3, "batch_size": 32}
    schedule = {"name": "sequential", "order": order}
    made = Recipe(tasks=tasks, encoder=SMALL, schedule=schedule, training=training)
    run = made.run(frame)
    (note,) = [note for note in run.record.notes if "An epoch of" in note]
    lines = [line for line in run.history if line["stage"] == note.split("'")[1]]
    others = [line for line in run.history if line not in lines]
    assert "An epoch of stage 'ill' is 1 step only (" in note
    n_rows = run.record.tasks["ill"].n_train
    assert (
        f"({n_rows} training rows, batch_size 32), so that the {len(lines)} epochs changed the parameters 3 times"
        in note
    )
    assert len(lines) == len(others) == 3
    assert len(run.history) == run.record.epochs


def test_one_epoch_of_one_step_is_noted_in_the_singular():
    made = Recipe(tasks={"price": "regression"}, encoder=SMALL, training={"epochs": 1, "batch_size": 64})
    (note,) = [note for note in made.run(table(60)).record.notes if "An epoch is" in note]
    assert "the 1 epoch changed the parameters 1 time: " in note
