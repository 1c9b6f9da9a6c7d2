"""A whole study: from a file to verdicts, a record and a bundle; killed and gone on with; on the command line."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from polytask import Study, load
from polytask.errors import DataError, InputError, RecipeError, RunFolderError
from polytask.records import StudyRecord
from polytask.study import Protocol
from polytask.study.bench import Bench, Material, Place

TARGETS = ["y", "z", "ill"]
QUICK = {
    "training": {"epochs": 3, "batch_size": 64},
    "encoder": {"name": "tabular", "width": 8, "n_blocks": 1, "embedding_width": 2},
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(180, 3)), columns=["a", "b", "c"])
    frame["town"] = rng.choice(["x", "y"], 180)
    frame["who"] = np.arange(180) // 3
    signal = frame["a"] + frame["b"]
    frame["y"] = (signal + 0.3 * rng.normal(size=180)).where(rng.random(180) > 0.3)
    frame["z"] = signal - 0.3 * rng.normal(size=180)
    frame["ill"] = pd.Series(np.where(signal > 0.3 * rng.normal(size=180), "yes", "no")).where(rng.random(180) > 0.2)
    return frame


@pytest.fixture(scope="module")
def done(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "run"
    study = Study(
        table,
        TARGETS,
        arms=["single", "joint", "boosting", "linear"],
        protocol=Protocol(folds=3, group="who"),
        out=out,
        **QUICK,
    )
    study.run()
    return study, out


def test_the_record_holds_what_a_page_needs(done, table):
    study, out = done
    record = StudyRecord.load(out)
    assert record == StudyRecord.from_json(json.loads(json.dumps(study.record.to_json())))
    assert list(record.tasks) == TARGETS
    assert len(record.folds) == 3
    assert sum(fold.n_test for fold in record.folds) == len(table)
    assert set(record.verdicts) == set(TARGETS)
    for task in TARGETS:
        for arm in record.arms.values():
            assert len(arm.errors[task]) == 3
            assert arm.error[task].mean == pytest.approx(np.mean(arm.errors[task]))
        assert record.verdicts[task].verdict in ("helped", "hurt", "no evidence")
        assert record.recommendation.arms[task] == record.verdicts[task].recommendation
        assert sum(record.recommendation.chosen[task].values()) == 3
    assert set(record.curves) == {"joint", "single"}
    assert set(record.curves["single"]) == set(TARGETS)
    assert set(record.residuals) == {"y", "z"}
    counts = record.calibration["ill"][0]["count"]
    assert sum(counts) == table["ill"].notna().sum()
    assert record.coverage["share"][0] == pytest.approx(table["y"].notna().mean(), abs=1e-4)
    assert record.coverage["together"][0][1] == pytest.approx(
        (table["y"].notna() & table["z"].notna()).mean(), abs=1e-4
    )
    assert record.data["rows"] == 180
    assert record.data["sha256"]
    assert "who" not in record.data["inputs"]


def test_the_choice_inside_the_folds_is_scored_on_test_rows_of_those_folds(table):
    study = Study(table, TARGETS, arms=["linear"], protocol=Protocol(folds=3, group="who"), **QUICK)
    record = study.run()
    for task in TARGETS:
        assert record.recommendation.chosen[task] == {"linear": 3}
        assert record.recommendation.errors[task] == record.arms["linear"].errors[task]


def test_the_choice_among_arms_is_scored_by_the_test_errors_of_those_arms(done):
    record = done[0].record
    for task in TARGETS:
        errors = record.recommendation.errors[task]
        assert len(errors) == 3
        assert None not in errors
        chosen = set(record.recommendation.chosen[task])
        known = {arm: record.arms[arm].errors[task] for arm in chosen if arm in record.arms}
        for fold, error in enumerate(errors):
            # A blend of arms has no errors of its own in the record.
            assert known.keys() < chosen or error in [mine[fold] for mine in known.values()]
        if len(chosen) == 1 and known:
            assert [errors] == list(known.values())


def test_groups_stay_on_one_side(done, table):
    study, _ = done
    question = Study(table, TARGETS, protocol=Protocol(folds=3, group="who"), **QUICK)._open()
    for _, _, split in study.protocol.splits(question.data, question.tasks):
        parts = [set(table["who"].iloc[rows]) for rows in (split.train, split.validation, split.test)]
        assert not parts[0] & (parts[1] | parts[2])
        assert not parts[1] & parts[2]


def test_one_bundle_predicts_all_tasks_and_can_be_loaded(done, table):
    study, out = done
    loaded = load(out)
    mine, theirs = study.bundle.predict_frame(table), loaded.predict_frame(table)
    pd.testing.assert_frame_equal(mine, theirs)
    assert set(TARGETS) <= set(theirs.columns)
    labels = table["z"].to_numpy()
    error = ((theirs["z"].to_numpy() - labels) ** 2).mean() / labels.var()
    assert error < 0.5


def test_a_folder_is_not_overwritten_nor_mixed(done, table):
    _, out = done
    with pytest.raises(RunFolderError, match="resume"):
        Study(table, TARGETS, out=out, **QUICK).run()
    with pytest.raises(RunFolderError):
        Study(table, TARGETS, arms=["linear"], out=out, resume=True, **QUICK).run()


def test_a_copy_of_a_target_is_refused_before_anything_is_trained(table, tmp_path):
    leaky = table.assign(echo=3 * table["z"] + 1)
    with pytest.raises(InputError, match="echo"):
        Study(leaky, TARGETS, arms=["linear"], out=tmp_path / "x", **QUICK).run()
    assert not list((tmp_path / "x").glob("trials/*"))


def test_one_task_has_no_verdict_but_a_recommendation(table):
    study = Study(table, ["y"], arms=["single", "joint", "linear"], protocol=Protocol(folds=2), **QUICK)
    record = study.run()
    assert record.verdicts == {}
    assert "one task only" in record.left_out["joint"]
    assert set(record.arms) == {"single", "linear"}
    assert study.bundle.predict(table)["y"].values.shape == (180,)


def test_each_value_of_a_column_is_a_task_with_rows_of_its_own(table, tmp_path):
    towns = table.assign(town=np.array(["Elm", "Oak", "Ash"])[np.arange(180) % 3])
    towns.loc[:3, "town"] = "Fir"
    study = Study(towns, ["z"], by="town", arms=["single", "joint", "linear"], protocol=Protocol(folds=3), **QUICK)
    record = study.run()
    assert list(record.tasks) == list(record.verdicts) == ["Ash", "Elm", "Oak"]
    assert record.tasks["Elm"].n_labels == (towns["town"] == "Elm").sum()
    assert record.tasks["Elm"].note.startswith("Task 'z' is taken as regression")
    assert "Fir (4)" in record.warnings[0]["words"]
    assert record.data["by"] == "town"
    assert not {"town", "z"} & set(record.data["inputs"])
    assert record.settings["by"] == "town"
    answers = study.bundle.predict_frame(towns.drop(columns=["z", "town"]))
    own = answers["Oak"][towns["town"] == "Oak"]
    assert np.corrcoef(own, towns["z"][towns["town"] == "Oak"])[0, 1] > 0.8
    study.bundle.save(tmp_path / "bundle")
    told = load(tmp_path / "bundle").predict_frame(towns.drop(columns="z"))
    assert list(told) == ["z"]
    assert told["z"][towns["town"] == "Oak"].tolist() == own.tolist()
    assert told["z"].isna().tolist() == (towns["town"] == "Fir").tolist()


def test_without_any_arm_that_can_run(table):
    with pytest.raises(RecipeError, match="No arm could be run"):
        Study(table, ["y"], arms=["joint"], protocol=Protocol(folds=2), **QUICK).run()


def test_by_time_every_block_is_tested_by_the_past(table):
    dated = table.assign(day=np.arange(180))
    protocol = Protocol(folds=3, time="day")
    study = Study(dated, ["y", "z"], arms=["linear"], protocol=protocol, **QUICK)
    record = study.run()
    assert [fold.repeat for fold in record.folds] == [0, 0, 0]
    assert [fold.n_train for fold in record.folds] == sorted(fold.n_train for fold in record.folds)


def test_a_fixed_split_tests_the_same_rows_with_several_seeds(table, tmp_path):
    parts = np.array(["train", "train", "train", "test", "validation", "train"])[np.arange(180) % 6]
    options = {"arms": ["single", "joint", "linear"], "protocol": Protocol(split="part"), **QUICK}
    record = Study(table.assign(part=parts), ["y", "ill"], drop=["who"], out=tmp_path / "run", **options).run()
    assert [(f.repeat, f.fold, f.n_train, f.n_validation, f.n_test) for f in record.folds] == [
        (r, 0, 120, 30, 30) for r in range(3)
    ]
    assert len({fold.seed for fold in record.folds}) == 3
    assert "part" not in record.data["inputs"]
    assert "bootstrap" in record.formulas["verdict"]
    n_test = table["y"][parts == "test"].notna().sum()
    assert f"3 trainings of each, {n_test} test labels" in record.verdicts["y"].words
    linear = record.arms["linear"]
    assert len(set(linear.errors["y"])) == 1, "ridge has no seed"
    assert linear.error["y"].low < linear.error["y"].mean < linear.error["y"].high
    assert record.recommendation.error["y"].low is not None


def test_a_holdout_keeps_groups_together_and_draws_them_together(table):
    study = Study(table, ["z"], arms=["linear"], protocol=Protocol(holdout=0.25, group="who", repeats=3), **QUICK)
    question = study._open()
    splits = study.protocol.splits(question.data, question.tasks)
    assert all((s[2].test == splits[0][2].test).all() for s in splits)
    who = table["who"].to_numpy()
    assert not set(who[splits[0][2].test]) & set(who[splits[0][2].train])
    assert 35 <= len(splits[0][2].test) <= 55
    bench = Bench(Material(question.data, question.tasks, study.recipe, study.protocol))
    _, kept = bench.fold(Place(*splits[0]))
    assert len(np.unique(kept.groups["z"])) == len(np.unique(who[splits[0][2].test]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "town"}, "must say train, validation or test.*row 0"),
        ({"split": "part"}, "names no test row"),
        ({"split": "sides", "group": "who"}, "60 groups on both sides"),
        ({"holdout": 1.5}, "between 0 and 1"),
        ({"validation": 0.0}, "chosen by validation rows.*between 0 and 1, got 0.0"),
        ({"holdout": 0.2, "split": "part"}, "neither a holdout nor a time"),
    ],
)
def test_splits_that_cannot_be_used(table, options, message):
    split = table.assign(part="train", sides=np.where(np.arange(180) % 3, "train", "test"))
    with pytest.raises(DataError, match=message):
        Study(split, ["z"], arms=["linear"], protocol=Protocol(**options), **QUICK).run()


def test_molecules_are_read_again_by_the_bundle(tmp_path):
    rng = np.random.default_rng(0)
    smiles = ["".join(rng.choice(["C", "O", "N", "CC(=O)"], 5)) for _ in range(90)]
    y = np.array([text.count("N") for text in smiles]) + 0.1 * rng.normal(size=90)
    frame = pd.DataFrame({"number": [f"molecule number {i}" for i in range(90)], "smiles": smiles, "y": y, "z": -y})
    options = {"kinds": {"smiles": "molecule"}, "protocol": Protocol(folds=2), "out": tmp_path / "run", **QUICK}
    study = Study(frame, ["y", "z"], arms=["joint", "linear", "boosting"], **options)
    study.run()
    answers = load(tmp_path / "run").predict_frame(frame[["smiles"]])
    assert np.corrcoef(answers["y"], y)[0, 1] > 0.6
    with pytest.raises(InputError, match="row 1 has 'C1C'"):
        study.bundle.predict(pd.DataFrame({"smiles": ["CO", "C1C"]}))


def two_sources() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(1)
    north = pd.DataFrame(rng.normal(size=(120, 3)), columns=["a", "b", "c"])
    south = pd.DataFrame(rng.normal(size=(90, 2)), columns=["a", "e"])
    north["y"] = north["a"] + north["b"] + 0.2 * rng.normal(size=120)
    south["z"] = south["a"] - south["e"] + 0.2 * rng.normal(size=90)
    south["ill"] = np.where(south["z"] > 0.3 * rng.normal(size=90), "yes", "no")
    north["who"], south["who"] = np.arange(120) // 3, np.arange(90) // 3 + 20
    return {"north": north, "south": south}


def test_several_sources_are_learned_jointly_and_read_apart_by_models_of_single_tasks(tmp_path):
    data, names = two_sources(), ["single", "joint", "linear", "boosting", "joint_forest"]
    protocol = Protocol(folds=3, group="who")
    study = Study(data, ["y", "z", "ill"], arms=names, protocol=protocol, out=tmp_path / "run", **QUICK)
    record = study.run()
    assert set(record.verdicts) == {"y", "z", "ill"}
    assert [record.tasks[task].n_labels for task in ("y", "z")] == [120, 90]
    assert "reads one source" in record.left_out["joint_forest"]
    for arm in ("joint", "single", "linear", "boosting"):
        assert all(len(record.arms[arm].errors[task]) == 3 for task in record.verdicts)
    assert record.arms["linear"].error["z"].mean < 0.2
    assert sum(fold.n_test for fold in record.folds) == 210
    assert record.data["sources"]["south"]["inputs"] == ["a", "e"]
    for name, rows in data.items():
        answers = load(tmp_path / "run").predict_frame(rows, source=name)
        task = {"north": "y", "south": "z"}[name]
        assert np.corrcoef(answers[task], rows[task])[0, 1] > 0.8


def test_a_group_of_several_sources_is_on_one_side_in_all_of_them():
    data = two_sources()
    study = Study(data, ["y", "z"], arms=["linear"], protocol=Protocol(folds=3, group="who"), **QUICK)
    question = study._open()
    who = question.data.column("who")
    for _, _, split in study.protocol.splits(question.data, question.tasks):
        assert not set(who[split.test]) & set(who[np.concatenate([split.train, split.validation])])
        assert (split.test < 120).any()
        assert (split.test >= 120).any()


def test_rows_of_one_source_in_another_are_a_sign_of_a_leak():
    data = two_sources()
    data["west"] = data["north"].rename(columns={"y": "w"})[:30]
    record = Study(data, ["y", "z", "w"], arms=["linear"], protocol=Protocol(folds=2), drop=["who"], **QUICK).run()
    (warning,) = [w for w in record.warnings if w["kind"] == "duplicates"]
    assert "30 of 120 rows of 'north' have the same inputs as a row of 'west'" in warning["words"]


def test_a_task_of_two_sources_is_refused():
    data = two_sources()
    data["south"]["y"] = 1.0
    with pytest.raises(RecipeError, match="labels in north and south"):
        Study(data, ["y"], arms=["linear"], drop=["who"], **QUICK).run()
    tasks = {"y": {"source": "north"}, "z": {}}
    assert Study(data, tasks, arms=["linear"], drop=["who"], protocol=Protocol(folds=2), **QUICK).run().tasks["y"]


def test_before_it_ran(table):
    study = Study(table, ["y"], **QUICK)
    with pytest.raises(RecipeError, match="run"):
        study.record  # noqa: B018
    with pytest.raises(RecipeError, match="run"):
        study.bundle  # noqa: B018


def command(path, out, *more):
    return [sys.executable, "-m", "polytask.cli", "study", str(path), "--targets", "y,z,ill", "--arms", "single,joint,boosting",
            "--drop", "who", "--budget", "none", "--workers", "1", "--set", "training.epochs=3", "--set", "encoder=tabular", "--set", "encoder.width=8", "--out", str(out), *more]  # fmt: skip


def ENV():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def timeless(record: dict) -> dict:
    """The record without times and dates."""
    arms = {
        name: {key: value for key, value in arm.items() if key not in ("seconds", "predict_seconds")}
        for name, arm in record["arms"].items()
    }
    rest = {key: value for key, value in record.items() if key not in ("seconds", "made")}
    return {**rest, "arms": arms}


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [("--folds", "3"), ("--by", "town", "--holdout", "0.3", "--targets", "y,z")], ids=["folds", "fixed"]
)
def test_killed_and_gone_on_with_it_ends_with_the_same_record(table, tmp_path, more):
    path = tmp_path / "t.csv"
    table.to_csv(path, index=False)
    whole = subprocess.run(
        command(path, tmp_path / "whole", *more, "--json"), env=ENV(), capture_output=True, text=True, check=True
    )
    expected = json.loads(whole.stdout)
    process = subprocess.Popen(
        command(path, tmp_path / "killed", *more), env=ENV(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list((tmp_path / "killed").glob("trials/*/[!.]*.json"))) < 4:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").glob("trials/*/[!.]*.json")}
    assert 4 <= len(before) < 9
    resumed = subprocess.run(
        command(path, tmp_path / "killed", *more, "--resume", "--json"),
        env=ENV(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert timeless(json.loads(resumed.stdout)) == timeless(expected)
    assert timeless(json.loads((tmp_path / "killed" / "study.json").read_text())) == timeless(expected)
    assert {file: file.stat().st_mtime_ns for file in before} == before, "a finished trial was run again"
    assert (tmp_path / "killed" / "page.html").exists()


@pytest.mark.slow
def test_the_command_line_says_the_verdicts_and_predicts(table, tmp_path):
    path, out = tmp_path / "t.csv", tmp_path / "run"
    table.to_csv(path, index=False)
    ran = subprocess.run(command(path, out, "--folds", "3"), env=ENV(), capture_output=True, text=True, check=True)
    first = ran.stdout.splitlines()[:3]
    for task, line in zip(TARGETS, first, strict=True):
        assert task in line
        assert "no evidence" in line or "jointly" in line
    assert "Relative error on test rows" in ran.stdout
    assert str(out / "bundle") in ran.stdout
    answers = tmp_path / "answers.csv"
    subprocess.run(
        [sys.executable, "-m", "polytask.cli", "predict", str(out), str(path), "--out", str(answers)],
        env=ENV(),
        check=True,
    )
    assert set(TARGETS) <= set(pd.read_csv(answers).columns)
    wrong = subprocess.run(
        command(path, tmp_path / "x", "--arms", "boostin"), env=ENV(), capture_output=True, text=True
    )
    assert wrong.returncode != 0
    assert "Did you mean 'boosting'" in wrong.stderr
    assert "Traceback" not in wrong.stderr
