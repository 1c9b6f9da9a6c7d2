"""What tasks say about their rows and their training holds in an extension too, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_extend import QUICK, new_table
from test_resume import StopAfter, table

import polytask
from polytask import Recipe
from polytask.cli import main
from polytask.errors import BundleError, DataError, RecipeError, RunFolderError, UnknownNameError
from polytask.records import RunRecord
from polytask.training.data_sets import ArrayData
from polytask.training.interruption import Interrupted
from polytask.training.new_heads import OldTasks
from polytask.training.opening import prepare_recipe

BRIEF = {**QUICK, "epochs": 1}


def old_recipe(path: Path | None = None, **options: Any) -> Recipe:
    return Recipe(
        tasks={"price": {"kind": "regression", "only_where": {"ill": "yes"}}, "ill": "binary"},
        data={"old": {"path": None if path is None else str(path), "drop": ["size"]}},
        encoder={"name": "tabular", "width": 8},
        training=BRIEF,
        **options,
    )


@pytest.fixture(scope="module")
def old() -> polytask.Bundle:
    return old_recipe().run(table(150)).bundle


@pytest.fixture
def seen(monkeypatch) -> list[Any]:
    """What extensions know of the old tasks' rows."""
    found: list[Any] = []
    made = OldTasks

    def noted(*given: Any) -> Any:
        found.append(made(*given))
        return found[-1]

    monkeypatch.setattr("polytask.extending.OldTasks", noted)
    return found


def rows_of(sources: Any) -> set[bytes]:
    source = sources["old"]
    inputs = source.batch(torch.arange(len(source))).inputs
    parts = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    return {b"".join(part[i].numpy().tobytes() for part in parts) for i in range(len(source))}


def n_labels(sources: Any, task: str) -> int:
    return sum(int(source.observed[task].sum()) for source in sources.values() if task in source.tasks)


@pytest.mark.parametrize(
    "split", [{"method": "random"}, {"method": "stratified"}, {"method": "grouped", "column": "who"}]
)
def test_the_rows_that_are_kept_apart_are_none_of_the_training_rows(split, seen, tmp_path):
    frame = table(200).assign(who=[f"p{i // 2}" for i in range(200)])
    # Labels of a task that comes later are in the table too, and had no say in the division.
    frame = frame.assign(cost=frame["a"].where(frame["b"] > 0))
    frame.to_csv(tmp_path / "old.csv", index=False)
    recipe = old_recipe(tmp_path / "old.csv", split=split)
    recipe = recipe.model_copy(
        update={"data": {"old": recipe.data["old"].model_copy(update={"drop": ["size", "cost", "who"]})}}
    )
    bundle, then = recipe.run().bundle, prepare_recipe(recipe)
    bundle = polytask.extend(bundle, new_table(), ["cost"], training=BRIEF).bundle
    polytask.extend(bundle, new_table(), ["group"], unfreeze=True, training=BRIEF)
    now = seen[-1]
    assert rows_of(now.train) == rows_of(then.train)
    assert rows_of(now.kept) == rows_of(then.validation) | rows_of(then.test)
    assert not rows_of(now.kept) & rows_of(then.train)
    for task in ("price", "ill"):
        assert n_labels(now.train, task) == n_labels(then.train, task)
        assert n_labels(now.kept, task) == n_labels(then.validation, task) + n_labels(then.test, task)


def test_conditions_of_a_task_hold_on_other_data_and_after_an_extension(old, seen):
    other = table(60, seed=9)
    other = other.assign(cost=other["a"])
    once = polytask.extend(
        old, new_table(), {"cost": {"kind": "regression", "only_where": {"group": "high"}}}, training=BRIEF
    )
    given = other.assign(group=np.where(other["a"] > 0.5, "high", "low"))
    polytask.extend(once.bundle, new_table(), ["group"], unfreeze=True, old_data=given, training=BRIEF)
    assert n_labels(seen[-1].kept, "price") == int((other["price"].notna() & (other["ill"] == "yes")).sum())
    assert n_labels(seen[-1].kept, "cost") == int((given["group"] == "high").sum())


def test_a_new_task_is_only_learned_where_it_is_defined(old):
    frame = new_table(120)
    made = polytask.extend(
        old, frame, {"cost": {"kind": "regression", "only_where": {"group": "high"}}}, training=BRIEF
    )
    result = made.record.tasks["cost"]
    defined = int((frame["cost"].notna() & (frame["group"] == "high")).sum())
    assert 0 < result.n_train + result.n_test < defined  # the validation rows are the rest
    everywhere = polytask.extend(old, frame, {"cost": "regression"}, training=BRIEF).record.tasks["cost"]
    assert result.n_train < everywhere.n_train
    assert not any("group" in note for note in made.record.notes if "not read" in note)


def test_weights_rates_warmup_and_ranking_of_a_new_task_are_kept(old):
    rng = np.random.default_rng(0)
    frame = new_table(120).assign(late=rng.random(120) > 0.5, who=rng.integers(0, 6, 120))
    frame["trust"] = np.where(frame["a"] > 0, 1.0, 0.0)

    def head(**controls: Any) -> tuple[torch.Tensor, polytask.Run]:
        asked = {"late": {"kind": "binary", **controls}}
        made = polytask.extend(old, frame, asked, start="fresh", training={**BRIEF, "patience": None})
        return made.bundle.models[0].model.heads.by_task["late"].weight.detach(), made

    plain, _ = head()
    for controls in ({"row_weights": "trust"}, {"learning_rate": 0.1}, {"warmup": 0.9}, {"schedule": "cosine"}):
        assert not torch.equal(plain, head(**controls)[0]), controls
    again, made = head(ranked_by="who")
    assert torch.equal(plain, again)
    assert "group_auroc" in made.record.tasks["late"].metrics
    assert any("plateau of task 'late'" in note for note in head(schedule="plateau")[1].record.notes)
    with pytest.raises(RecipeError, match=r"'late' has a patience of its own.*training\.patience"):
        head(patience=2)
    with pytest.raises(DataError, match="No column named 'trusted', for row_weights of task"):
        head(row_weights="trusted")


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ({"weight": 3.0}, {}, "whose options it takes over as they are: take weight out"),
        ({"only_where": {"c": "high"}}, {}, "take only_where out"),
        ({}, {"unfreeze": True}, "take unfreeze"),
        ({}, {"unfreeze": True, "remedies": ["ewc"]}, "take unfreeze"),
        ({}, {"training": {"epochs": 3}}, r"settings of training out \(epochs\)"),
        ({}, {"split": {"test": 0.5}}, r"settings of split out \(test\)"),
    ],
)
def test_what_a_task_without_labels_cannot_keep_is_refused(task, options, words, old):
    with pytest.raises(RecipeError, match=words):
        polytask.extend(old, targets={"risk": {"target": "risk", **task}}, like="ill", **options)


def test_labels_in_arrays_are_refused_as_those_in_a_table_are():
    images = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
    labels = (images.mean((1, 2)) > 0.5).astype(float)
    run = Recipe(tasks={"bright": "binary"}, encoder={"name": "cnn", "channels": [4], "width": 8}, training=BRIEF).run(
        [ArrayData("images", images, {"bright": labels})]
    )
    labels[:5] = np.nan
    with pytest.raises(RecipeError, match="the data have 35 of 'dark'"):
        polytask.extend(run.bundle, ArrayData("images", images, {"dark": labels}), ["dark"], like="bright")
    made = polytask.extend(run.bundle, ArrayData("images", images, {}), ["dark"], like="bright")
    assert made.record.extension.start == {"dark": "taken over from bright"}


def test_a_device_that_is_not_there_is_said_first(old, tmp_path):
    with pytest.raises(RecipeError, match=r"training\.device 'nowhere' cannot be used"):
        polytask.extend(old, new_table(), ["cost"], training={"device": "nowhere"}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_old_data_may_be_columns_and_other_ones_are_not_resumed_with(old, tmp_path):
    first, second = table(60, seed=9), table(60, seed=10)

    def extended(given: pd.DataFrame, **options: Any) -> polytask.Run:
        columns = {name: given[name].to_numpy() for name in given}
        return polytask.extend(old, new_table(), ["cost"], unfreeze=True, old_data=columns, training=QUICK,
                               out=tmp_path / "run", **options)  # fmt: skip

    with pytest.raises(Interrupted):
        extended(first, progress=StopAfter(6))
    with pytest.raises(RunFolderError, match="old_data"):
        extended(second, resume=True)
    assert not extended(first, resume=True).record.extension.is_frozen


def test_tasks_of_an_extension_are_measured_on_their_own_rows_as_they_were_divided_then(seen, tmp_path):
    table(160).assign(cost=lambda t: t["a"] * 3 + t["b"]).to_csv(tmp_path / "old.csv", index=False)
    bundle = old_recipe(tmp_path / "old.csv").model_copy(
        update={"data": {"old": old_recipe(tmp_path / "old.csv").data["old"].model_copy(update={"drop": ["size", "cost"]})}}
    ).run().bundle  # fmt: skip
    added = polytask.extend(bundle, str(tmp_path / "old.csv"), ["cost"], seed=7, training=BRIEF)
    again = polytask.extend(
        added.bundle, new_table(), ["group"], unfreeze=True, training={**BRIEF, "learning_rate": 0.1}
    )
    old = seen[-1]
    for task in ("price", "cost"):
        kept, train = ({key: s for key, s in part.items() if task in s.tasks} for part in (old.kept, old.train))
        (kept_name,), (train_name,) = kept, train
        assert not rows_of({"old": kept[kept_name]}) & rows_of({"old": train[train_name]})
    (of_cost,) = (source for source in old.train.values() if "cost" in source.tasks)
    assert int(of_cost.observed["cost"].sum()) == added.record.tasks["cost"].n_train
    assert set(again.record.extension.before) == set(again.record.extension.after) == {"price", "ill", "cost"}
    assert again.bundle.metrics["cost"] == again.record.extension.after["cost"]
    assert "Old tasks are measured on the rows that their training kept apart." in again.record.notes


def test_a_task_whose_rows_are_not_at_hand_is_named_and_keeps_no_metrics_of_another_network(old, tmp_path):
    table(120).to_csv(tmp_path / "old.csv", index=False)
    added = polytask.extend(old_recipe(tmp_path / "old.csv").run().bundle, new_table(), ["cost"], training=BRIEF)
    assert "cost" in added.bundle.metrics
    made = polytask.extend(added.bundle, new_table(), ["group"], unfreeze=True, training=BRIEF)
    assert set(made.bundle.metrics) == {"price", "ill", "group"}
    assert [note for note in made.record.notes if note.startswith("What changes for cost is not measured")]
    given = polytask.extend(
        added.bundle, new_table(), ["group"], unfreeze=True, old_data=new_table(), remedies=["ewc"], training=BRIEF
    )
    assert set(given.bundle.metrics) == {"cost", "group"}
    assert [note for note in given.record.notes if note.startswith("What changes for price, ill is not measured")]


def test_an_unknown_task_that_is_to_decide_is_refused_without_validation_rows_too(old):
    with pytest.raises(UnknownNameError, match="cots"):
        polytask.extend(
            old, new_table(), ["cost"], split={"validation": 0.0}, training={**BRIEF, "stop_rule": "task:cots"}
        )


def test_a_network_of_several_epochs_says_whose_patience_made_it():
    tasks = {"price": {"kind": "regression", "patience": 1, "learning_rate": 0.5}, "ill": "binary"}
    run = Recipe(
        tasks=tasks,
        data={"old": {"drop": ["size"]}},
        encoder={"name": "tabular", "width": 8},
        training={**QUICK, "epochs": 8, "patience": None},
    ).run(table(150))
    assert list(run.bundle.answers) == ["price"], "its best epoch is not the last one"
    with pytest.raises(BundleError, match="This one has 2, because price stopped by a patience of its own"):
        polytask.extend(run.bundle, new_table(), ["cost"], training=BRIEF)


def test_a_task_like_one_of_several_columns_has_as_many():
    frame = table(60).assign(left=lambda t: (t["a"] > 0).astype(int), right=lambda t: (t["b"] > 0).astype(int))
    run = Recipe(
        tasks={"both": {"kind": "multilabel", "target": ["left", "right"]}},
        data={"old": {"drop": ["size", "price", "ill"]}},
        encoder={"name": "tabular", "width": 8},
        training=BRIEF,
    ).run(frame)
    with pytest.raises(
        RecipeError, match=r"'z' is to be like 'both', which answers 2 columns .left, right., and has 1"
    ):
        polytask.extend(run.bundle, targets=["z"], like="both")
    made = polytask.extend(run.bundle, targets={"z": {"target": ["up", "down"]}}, like="both")
    answer = made.bundle.predict(frame[:4])
    np.testing.assert_array_equal(answer["z"].values, answer["both"].values)


def test_settings_of_new_tasks_are_given_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    old_recipe().run(table(100), out=tmp_path / "run")
    new_table().assign(ill=table(90, seed=5)["ill"]).to_csv("new.csv", index=False)

    def call(*options: str) -> int | str | None:
        command = ["polytask", "extend", "run", "--data", "new.csv", "--targets", "cost", "--epochs", "1", *options]
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0

    assert call("--out", "more", "--set", "tasks.cost.only_where={ill: yes}") == 0
    record = RunRecord.load(tmp_path / "more" / "record.json")
    assert 0 < record.tasks["cost"].n_train + record.tasks["cost"].n_test < 45
    capsys.readouterr()
    assert call("--out", "none", "--set", "tasks.cots.warmup=0.1") == 2
    assert "No new task named 'cots'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
