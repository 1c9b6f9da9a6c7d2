"""Tasks that are added to a trained model: the old ones answer as before, or what changed is measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_resume import StopAfter, table

import polytask
from polytask import Recipe
from polytask.cli import main
from polytask.errors import BundleError, DataError, InputError, RecipeError
from polytask.training import new_heads
from polytask.training.data_sets import ArrayData
from polytask.training.interruption import Interrupted
from polytask.training.old_rows import old_rows
from polytask.training.opening import prepare_recipe
from polytask.training.run_folder import RunFolder

QUICK = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01}


def new_table(n: int = 90) -> pd.DataFrame:
    frame = table(n, seed=5)
    frame["cost"] = frame["price"] * 2 + 1
    frame["group"] = np.where(frame["a"] > 0.5, "high", np.where(frame["a"] < -0.5, "low", "mid"))
    return frame.drop(columns=["price", "ill", "size"])


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    table(150).to_csv(folder / "old.csv", index=False)
    Recipe(
        tasks={"price": "regression", "ill": "binary"},
        data={"old": {"path": str(folder / "old.csv"), "drop": ["size"]}},
        encoder={"name": "tabular", "width": 8, "dropout": 0.3},
        training={**QUICK, "epochs": 6},
    ).run(out=folder / "run")
    return folder


@pytest.mark.parametrize("sharing", ["hard", {"name": "hard", "ratio": 0.5}, "mmoe", "residual_adapters", "lora"])
@pytest.mark.parametrize("encoder", ["tabular", {"name": "tabm", "k": 2, "width": 8}])
def test_old_tasks_are_bit_equal_with_every_sharing_that_takes_a_further_task(sharing, encoder, tmp_path):
    run = Recipe(
        tasks={"price": "regression", "ill": "binary"}, encoder=encoder, sharing=sharing, training={**QUICK, "epochs": 1},
        data={"data": {"drop": ["size"]}},
    ).run(table(60))  # fmt: skip
    before = run.bundle.predict(new_table())
    made = polytask.extend(
        run.bundle, new_table(), ["cost", "group"], out=tmp_path / "run", training={**QUICK, "epochs": 1}
    )
    for name, answer in polytask.load(tmp_path / "run").predict(new_table()).items():
        if name in before:
            np.testing.assert_array_equal(answer.values, before[name].values)
            if answer.probabilities is not None:
                np.testing.assert_array_equal(answer.probabilities, before[name].probabilities)
    extension = made.record.extension
    assert extension.is_frozen
    assert set(extension.change.values()) == {0.0}
    assert extension.rows_compared > 0
    assert set(made.record.tasks) == {"cost", "group"}
    assert list(made.predict(new_table())) == ["price", "ill", "cost", "group"]
    assert polytask.records.RunRecord.load(tmp_path / "run" / "record.json") == made.record


@pytest.mark.parametrize("encoder", ["tabular", {"name": "tabm", "k": 2, "width": 8}])
def test_adapters_are_learned_in_a_hard_shared_network_that_stays_as_it_is(encoder, tmp_path):
    run = Recipe(
        tasks={"price": "regression", "ill": "binary"}, encoder=encoder, training={**QUICK, "epochs": 1},
        data={"data": {"drop": ["size"]}},
    ).run(table(60))  # fmt: skip
    rows = new_table()
    before = run.bundle.predict(rows)
    made = polytask.extend(
        run.bundle,
        rows,
        ["cost"],
        adapters={"bottleneck": 3},
        out=tmp_path / "run",
        training={**QUICK, "epochs": 2},
        start="fresh",  # a start from an old head would be kept as it is if two epochs make it worse
    )
    assert set(made.record.extension.change.values()) == {0.0}
    network = polytask.load(tmp_path / "run").models[0]
    assert network.spec.sharing == "residual_adapters"
    assert list(network.model.sharing.adapters) == ["cost"]
    assert any(bool(adapter.up.any()) for adapter in network.model.sharing.adapters["cost"]), "nothing was learned"
    # A further task without adapters, and one with: the trunk alone, and adapters of the width that there is.
    plain = polytask.extend(tmp_path / "run", rows, ["group"], training={**QUICK, "epochs": 1})
    both = polytask.extend(tmp_path / "run", rows, ["group"], adapters=True, training={**QUICK, "epochs": 1})
    assert list(plain.bundle.models[0].model.sharing.adapters) == ["cost"]
    assert list(both.bundle.models[0].model.sharing.adapters) == ["cost", "group"]
    for bundle in (polytask.load(tmp_path / "run"), plain.bundle, both.bundle):
        answers = bundle.predict(rows)
        assert all((answers[name].values == before[name].values).all() for name in before)
        alone = bundle.predict(rows, ["ill"])["ill"]
        np.testing.assert_array_equal(alone.probabilities, before["ill"].probabilities)
    for options, words in (
        ({"adapters": {"bottleneck": 8}}, "have the bottleneck 3"),
        ({"adapters": {"width": 8}}, "No option of adapters named 'width'"),
        ({"adapters": True, "unfreeze": True}, "take the adapters out"),
        ({"adapters": True, "like": "ill"}, "take the adapters out"),
    ):
        with pytest.raises(RecipeError, match=words):
            polytask.extend(tmp_path / "run", rows, ["group"], **options)


def test_adapters_need_a_trunk_that_all_tasks_share():
    asked = Recipe(tasks=["price"], sharing={"name": "hard", "ratio": 0.5}, encoder="tabular", training={"epochs": 1})
    run = asked.run(table(60).drop(columns=["ill", "size"]))
    with pytest.raises(RecipeError, match="has parameters of its own there"):
        polytask.extend(run.bundle, new_table(), ["cost"], adapters=True, training=QUICK)


def test_the_history_is_that_of_the_start_that_is_kept(old, tmp_path, monkeypatch):
    def spoiled(model, new, line):
        with torch.no_grad():
            model.heads.by_task[new].weight.fill_(50.0)
        return True

    monkeypatch.setattr("polytask.training.new_heads.start_from", spoiled)
    options = {"split": {"validation": 0.3, "test": 0}, "training": QUICK}
    made = polytask.extend(old / "run", new_table(), ["cost"], out=tmp_path / "run", **options)
    assert made.record.extension.start == {"cost": "fresh"}
    assert set(made.record.extension.starts) == {"closest", "fresh"}
    fresh = polytask.extend(old / "run", new_table(), ["cost"], start="fresh", **options)
    lines = [[{k: v for k, v in line.items() if k != "seconds"} for line in run.history] for run in (made, fresh)]
    assert lines[0] == lines[1]
    assert made.history == RunFolder(tmp_path / "run").history()
    assert not list((tmp_path / "run").glob("*checkpoint*"))


def test_a_new_task_that_is_an_old_one_in_other_units_starts_from_it_and_beats_a_fresh_head(old, tmp_path):
    few = new_table(30)
    made = polytask.extend(
        old / "run", few, ["cost"], training={**QUICK, "epochs": 2}, split={"validation": 0.3, "test": 0}
    )
    extension = made.record.extension
    assert next(iter(extension.resemblance["cost"])) == "price"
    assert extension.start["cost"] == "from price"
    closest, fresh = extension.starts["closest"], extension.starts["fresh"]
    assert closest["at the start"]["cost"] < fresh["at the end"]["cost"]
    plain = polytask.extend(old / "run", few, ["cost"], training=QUICK, start="fresh")
    assert plain.record.extension.start == {"cost": "fresh"}


def test_a_start_that_training_only_makes_worse_is_kept_as_it_is(old, tmp_path):
    few = new_table(30)
    wild = {**QUICK, "epochs": 2, "learning_rate": 30.0}
    made = polytask.extend(
        old / "run", few, ["cost"], training=wild, split={"validation": 0.3, "test": 0}, out=tmp_path / "run"
    )
    extension = made.record.extension
    closest = extension.starts["closest"]
    assert closest["at the start"]["cost"] < closest["at the end"]["cost"]
    assert extension.start["cost"] == "from price, untrained"
    assert made.record.epochs == 2
    assert made.record.best_epoch is None
    assert any("'cost' is kept as it started, untrained" in note for note in made.record.notes)
    rows = few.drop(columns="cost")
    gentle = polytask.extend(
        old / "run", few, ["cost"], training={**wild, "learning_rate": 1e-12}, split={"validation": 0.3, "test": 0}
    )
    for answers in (made.predict(rows), polytask.load(tmp_path / "run").predict(rows)):
        np.testing.assert_allclose(
            np.asarray(answers["cost"].values, float),
            np.asarray(gentle.predict(rows)["cost"].values, float),
            rtol=1e-4,
        )


def test_each_task_keeps_the_start_that_was_better_for_it(old, monkeypatch):
    plain = new_heads.start_from

    def spoiled_for_far(model, new, line):
        is_done = plain(model, new, line)
        if new == "far":
            with torch.no_grad():
                model.heads.by_task[new].weight.fill_(50.0)
        return is_done

    monkeypatch.setattr(new_heads, "start_from", spoiled_for_far)
    rows = new_table(40).assign(far=lambda t: t["cost"] ** 2)
    options = {"split": {"validation": 0.3, "test": 0}, "training": {**QUICK, "epochs": 1, "learning_rate": 1e-3}}
    made = polytask.extend(old / "run", rows, ["cost", "far"], **options)
    extension = made.record.extension
    assert list(extension.starts) == ["closest", "fresh", "by task"]
    assert extension.start["cost"].startswith("from price")
    assert extension.start["far"] == "fresh"
    ends = {name: losses["at the end"] for name, losses in extension.starts.items()}
    assert sum(ends["by task"].values()) < min(sum(ends["closest"].values()), sum(ends["fresh"].values()))
    assert ends["by task"]["cost"] < ends["fresh"]["cost"]
    assert ends["by task"]["far"] < ends["closest"]["far"]


def test_only_the_head_that_training_made_worse_goes_back_to_its_start(old):
    rows, wild = new_table(40), {**QUICK, "epochs": 1, "learning_rate": 0.3}
    made = polytask.extend(old / "run", rows, ["cost", "group"], training=wild, split={"validation": 0.3, "test": 0})
    extension = made.record.extension
    closest = extension.starts["closest"]
    assert closest["at the start"]["cost"] < closest["at the end"]["cost"]
    assert closest["at the start"]["group"] > closest["at the end"]["group"]
    assert extension.start == {"cost": "from price, untrained", "group": "from ill"}
    assert made.record.best_epoch == 0
    assert sum("is kept as it started, untrained" in note for note in made.record.notes) == 1


def test_heads_with_hidden_layers_start_fresh_and_the_record_says_so():
    recipe = Recipe(
        tasks={"price": "regression"}, encoder={"name": "tabular", "width": 8}, head_hidden=[4], training={**QUICK, "epochs": 1}
    )  # fmt: skip
    old = recipe.run(table(60).drop(columns=["ill", "size"])).bundle
    made = polytask.extend(old, new_table(), ["cost"], training={**QUICK, "epochs": 1})
    assert made.record.extension.start == {"cost": "fresh"}
    assert set(made.record.extension.starts) == {"fresh"}
    assert list(made.record.extension.resemblance["cost"]) == ["price"]


def test_a_task_without_any_label_takes_over_another_ones_answers(old, tmp_path):
    made = polytask.extend(old / "run", targets={"risk": {"target": "risk"}}, like="ill", out=tmp_path / "run")
    answers = made.predict(new_table())
    np.testing.assert_array_equal(answers["risk"].probabilities, answers["ill"].probabilities)
    with pytest.raises(RecipeError, match="is binary, and so cannot be count"):
        polytask.extend(old / "run", targets={"risk": "count"}, like="ill")


def test_an_unfrozen_network_changes_and_the_change_is_measured_on_kept_rows(old):
    def extended(**options):
        return polytask.extend(old / "run", new_table(), ["cost"], unfreeze=True, training=QUICK, **options)

    plain, kept = extended(), extended(remedies=[{"name": "learning_without_forgetting", "strength": 10.0}, "ewc"])
    for made in (plain, kept):
        extension = made.record.extension
        assert not extension.is_frozen
        assert set(extension.before) == set(extension.after) == {"price", "ill"}
        assert any("kept apart" in note for note in made.record.notes)
    assert min(plain.record.extension.change.values()) > 0
    assert sum(kept.record.extension.change.values()) < sum(plain.record.extension.change.values())
    other = extended(old_data=table(40, seed=9))
    assert any("all rows of old" in note for note in other.record.notes)
    with pytest.raises(RecipeError, match="has to be there while the old tasks are trained"):
        extended(remedies=["replay"])


def test_without_old_data_an_unfrozen_extension_says_what_is_missing():
    run = Recipe(tasks=["price"], encoder="tabular", training={**QUICK, "epochs": 1}).run(table(60))
    new = new_table().assign(ill="yes", size=1.0)
    with pytest.raises(DataError, match="--old-data, or leave the network frozen"):
        polytask.extend(run.bundle, new, ["cost"], unfreeze=True, training=QUICK)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.drop(columns="a"), InputError, "lacks 'a', which training had"),
        (lambda t: t.assign(a="text"), InputError, "'a' holds numbers, but row 0 has 'text'"),
        (lambda t: t.drop(columns="cost"), DataError, "No target column named 'cost'"),
        (lambda t: t.assign(cost=np.nan), DataError, "cost"),
    ],
)
def test_columns_that_are_missing_or_wrong_are_named(old, change, error, words):
    with pytest.raises(error, match=words):
        polytask.extend(old / "run", change(new_table()), {"cost": "regression"}, training=QUICK)


def test_further_columns_are_noted_and_not_read(old):
    made = polytask.extend(old / "run", new_table().assign(far=1.0), ["cost"], training={**QUICK, "epochs": 1})
    assert any("not read: group, far" in note for note in made.record.notes)


def test_what_cannot_be_asked_is_said(old, tmp_path):
    run = old / "run"
    for options, words in (
        ({"remedies": ["ewc"]}, "nothing is forgotten"),
        ({"start": "nearest"}, "No start named 'nearest'"),
        ({"source": "other"}, "No source named 'other'"),
    ):
        with pytest.raises(RecipeError, match=words):
            polytask.extend(run, new_table(), ["cost"], **options)
    with pytest.raises(RecipeError, match="Give data, or `like`"):
        polytask.extend(run, targets=["cost"])
    again = new_table().rename(columns={"cost": "price"})
    with pytest.raises(RecipeError, match="has a task 'price' already"):
        polytask.extend(run, again, ["price"], training=QUICK)
    stitched = Recipe(
        tasks=["price", "ill"], sharing="cross_stitch", encoder="tabular", training={"epochs": 1}, data={"data": {"drop": ["size"]}}
    ).run(table(60))  # fmt: skip
    with pytest.raises(RecipeError, match="'cross_stitch' cannot take a further task"):
        polytask.extend(stitched.bundle, new_table(), ["cost"], training=QUICK)
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        polytask.extend(tmp_path, new_table(), ["cost"])


def test_an_extension_goes_on_bit_for_bit_and_can_be_extended_again(old, tmp_path):
    def extended(folder: Path, **options):
        return polytask.extend(old / "run", new_table(), ["cost"], out=folder, training=QUICK, **options)

    whole = extended(tmp_path / "whole")
    n_steps = whole.history[-1]["step"]
    for folder, steps, words in (("cut", 6, "after step 6"), ("late", n_steps + 3, "in a further training of the run")):
        with pytest.raises(Interrupted, match=words) as stop:
            extended(tmp_path / folder, progress=StopAfter(steps))
        assert f"--resume: {tmp_path / folder}." in str(stop.value)
        resumed = extended(tmp_path / folder, resume=True)
        states = [run.bundle.models[0].model.state_dict() for run in (whole, resumed)]
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
        assert resumed.record.extension == whole.record.extension
    further = polytask.extend(tmp_path / "cut", new_table(), ["group"], training=QUICK)
    assert [task.name for task in further.bundle.tasks] == ["price", "ill", "cost", "group"]


def test_arrays_are_extended_too():
    rng = np.random.default_rng(0)
    images = rng.random((60, 8, 8)).astype(np.float32)
    bright = images.mean((1, 2))
    run = Recipe(tasks={"bright": "regression"}, encoder={"name": "cnn", "channels": [4], "width": 8},
                 training={"epochs": 1}).run([ArrayData("images", images, {"bright": bright})])  # fmt: skip
    rows = ArrayData("images", images, {"dark": (bright < np.median(bright)).astype(int)})
    made = polytask.extend(run.bundle, rows, {"dark": "binary"}, training={"epochs": 1})
    assert set(made.record.extension.change.values()) == {0.0}
    with pytest.raises(InputError, match="The model"):
        polytask.extend(run.bundle, ArrayData("images", images[:, :4], {"dark": bright > 0}), {"dark": "binary"})


def test_the_command_line(old, tmp_path, monkeypatch, capsys):
    new_table().to_csv(tmp_path / "new.csv", index=False)

    def call(*options: str) -> tuple[int | str | None, str, str]:
        command = ["polytask", "extend", str(old / "run"), "--data", str(tmp_path / "new.csv"), "--targets", "cost"]
        monkeypatch.setattr("sys.argv", [*command, "--epochs", "2", *options])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    code, out, err = call("--out", str(tmp_path / "run"), "--adapters", "--set", "adapters.bottleneck=2")
    assert code == 0, err
    assert "bit-equal outputs on" in out
    assert json.loads((tmp_path / "run" / "record.json").read_text())["extension"]["is_frozen"]
    assert polytask.load(tmp_path / "run").models[0].spec.sharing_options == {"bottleneck": 2, "adapted": ["cost"]}
    for options in (["--remedies", "ewc"], ["--adapters", "--unfreeze"], ["--set", "balancer.name=equal"]):
        code, _, err = call("--out", str(tmp_path / "other"), *options)
        assert (code, err.count("\n")) == (2, 1), err


def test_a_hundred_tasks_are_added_at_once(old):
    rng = np.random.default_rng(0)
    made = {f"t{i}": rng.normal(size=90) + table(90, seed=5)["a"].to_numpy() * i for i in range(100)}
    frame = pd.concat([new_table(), pd.DataFrame(made)], axis=1)
    frame.loc[:, "t7"] = frame["t7"].where(frame.index % 9 == 0)
    run = polytask.extend(old / "run", frame, list(made), training={**QUICK, "epochs": 1, "batch_size": 90})
    assert set(run.record.tasks) == set(made)
    assert set(run.record.extension.change.values()) == {0.0}
    answers = run.bundle.predict(frame[:3])
    assert set(answers) == {"price", "ill", *made}
    assert all(np.isfinite(np.asarray(answers[name].values, dtype=float)).all() for name in made)


def test_old_tasks_of_several_sources_are_measured_each_on_its_own_rows():
    rows = {"left": table(80, seed=1).drop(columns=["ill"]), "right": table(70, seed=2).drop(columns=["price"])}
    old = Recipe(
        tasks={"price": "regression", "ill": "binary"},
        data={"left": {"drop": ["size"]}, "right": {"drop": ["size"]}},
        encoder={"name": "tabular", "width": 8},
        training={**QUICK, "epochs": 2},
    ).run(rows)
    run = polytask.extend(
        old.bundle, new_table(), ["cost"], source="left", unfreeze=True, old_data=rows, training={**QUICK, "epochs": 2}
    )
    extension = run.record.extension
    assert set(extension.before) == set(extension.after) == {"price", "ill"}
    assert min(extension.change.values()) > 0
    with pytest.raises(DataError, match="rows of 'right' with their labels"):
        polytask.extend(
            old.bundle,
            new_table(),
            ["cost"],
            source="left",
            unfreeze=True,
            old_data={"left": rows["left"]},
            training=QUICK,
        )


def test_old_tasks_of_sources_with_common_patients_are_divided_as_in_their_training():
    def whose(n: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).permutation(np.repeat(np.arange(20), n // 20)).astype(str)

    rows = {
        "left": table(80, seed=1).drop(columns=["ill"]).assign(who=whose(80, 3)),
        "right": table(60, seed=2).drop(columns=["price"]).assign(who=whose(60, 4)),
    }
    recipe = Recipe(
        tasks={"price": "regression", "ill": "binary"},
        data={"left": {"drop": ["size"]}, "right": {"drop": ["size"]}},
        split={"method": "grouped", "column": "who", "validation": 0.2, "test": 0.2},
        encoder={"name": "tabular", "width": 8},
        training={**QUICK, "epochs": 1},
    )
    splits = prepare_recipe(recipe, rows).splits
    bundle = recipe.run(rows).bundle
    patients = {name: frame["who"].to_numpy() for name, frame in rows.items()}
    learned = {who for name, split in splits.items() for who in patients[name][split.train]}
    for name, split in splits.items():
        assert len(split.train)
        assert not learned & set(patients[name][np.r_[split.validation, split.test]])
    found = old_rows(bundle, bundle.tasks, [recipe], rows)
    for name, split in splits.items():
        task = "price" if name == "left" else "ill"
        labels = rows[name][task].to_numpy()
        expected = int((~pd.isna(labels[np.r_[split.validation, split.test]])).sum())
        assert int(found.kept[name].observed[task].sum()) == expected
        assert len(found.train[name]) == len(split.train)
    # One source alone does not say how the groups of both were divided.
    alone = pd.concat([rows["left"], rows["left"].head(1)])
    other = old_rows(bundle, bundle.tasks, [recipe], {**rows, "left": alone})
    assert len(other.kept["right"]) == len(rows["right"])
    assert any("without the run's other sources" in note for note in other.notes)
