"""Rows of one patient stay on one side: in halves, in rows held back, among test rows, in a study's arms."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from polytask import Recipe
from polytask.affinity import AffinityRecord, find_affinity
from polytask.affinity import readings as module
from polytask.affinity.ground import Ground, half
from polytask.affinity.opening import open_prepared
from polytask.cli.app import app
from polytask.errors import DataError
from polytask.study import Protocol, Study
from polytask.training.planning import plan_of

NETWORK = {"encoder": {"name": "mlp", "widths": [8]}, "training": {"epochs": 2, "batch_size": 32}}
TARGETS = [f"y{i}" for i in range(6)]


def visits(n_patients=24, n_visits=20, seed=0, **more):
    """Tasks that have nothing in common, but each patient has a level of his own in each of them."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), n_visits)
    levels = rng.normal(size=(n_patients, len(TARGETS)))
    labels = levels[patient] + 0.3 * rng.normal(size=(len(patient), len(TARGETS)))
    inputs = {f"x{i}": rng.normal(size=len(patient)) for i in range(3)}
    # The row says who it is of, so that the tests can see where it went.
    return pd.DataFrame({**inputs, "who": patient.astype(float), **more, "patient": [f"p{i}" for i in patient]}).join(
        pd.DataFrame(labels, columns=TARGETS)
    )


def opened(data, targets=TARGETS, **settings):
    return open_prepared(data, targets, 0, {**NETWORK, **settings}, group="patient")


def who(source):
    return set(source.inputs["numeric"][:, -1].tolist())


def test_halves_share_no_patient_and_together_are_all_rows():
    _, prepared, groups = opened(visits())
    halves = [half(prepared, 0, which, groups) for which in (0, 1)]
    sources = [ready.train["data"] for ready, _ in halves]
    assert not who(sources[0]) & who(sources[1])
    assert sum(map(len, sources)) == len(prepared.train["data"])
    assert abs(len(sources[0]) - len(sources[1])) <= 20
    for source, (_, kept) in zip(sources, halves, strict=True):
        assert len(set(kept["data"])) == len(who(source))


def test_a_patient_of_several_sources_is_in_one_half():
    first, second = visits()[["x0", "who", "patient", "y0"]], visits(n_visits=7)[["x0", "who", "patient", "y1"]]
    _, prepared, groups = opened({"one": first, "two": second}, ["y0", "y1"])
    sides = [half(prepared, 3, which, groups)[1] for which in (0, 1)]
    seen = [set(np.concatenate([side["one"], side["two"]])) for side in sides]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(np.concatenate([groups["one"], groups["two"]]))


def test_rows_that_are_held_back_for_validation_are_of_other_patients():
    recipe, prepared, groups = opened(visits(), split={"validation": 0.0})
    assert not prepared.validation
    plan = plan_of(recipe, prepared)
    ground = Ground(prepared, plan, groups=groups).prepared
    train, validation = ground.train["data"], ground.validation["data"]
    assert len(train) + len(validation) == len(prepared.train["data"])
    assert not who(train) & who(validation)
    assert 0 < len(validation) <= 0.15 * len(prepared.train["data"])
    plain = Ground(prepared, plan).prepared
    assert who(plain.train["data"]) & who(plain.validation["data"])


def test_too_few_patients_for_two_halves_is_said():
    _, prepared, groups = opened(visits(3), split={"validation": 0.0, "test": 0.5})
    one = {"data": np.full(len(groups["data"]), "p0")}
    with pytest.raises(DataError, match="it has too few groups"):
        half(prepared, 0, 0, one)


def test_levels_of_patients_are_no_structure():
    asked = {"measures": ["label_correlation"], "drop": ["who"], **NETWORK}
    by_row = find_affinity(visits().drop(columns="patient"), TARGETS, **asked)
    by_patient = find_affinity(visits(), TARGETS, group="patient", **asked)
    # The same patients are in both halves of the rows, and with them the same chance.
    assert by_row.measures["label_correlation"].structure.is_found
    assert not by_patient.measures["label_correlation"].structure.is_found
    assert "patient" not in by_patient.data["data"]["inputs"]


def test_a_recipe_and_a_long_table_keep_patients_together_too(tmp_path):
    visits().to_csv(tmp_path / "v.csv", index=False)
    split = {"method": "grouped", "column": "patient"}
    recipe = Recipe(tasks=TARGETS, data={"v": {"path": str(tmp_path / "v.csv")}}, split=split, **NETWORK)
    _, prepared, groups = open_prepared(recipe, None, 0, {})
    assert len(groups["v"]) == len(prepared.train["v"])
    long = visits(clinic=np.tile(["a", "b"], 240))[["x0", "who", "clinic", "patient", "y0"]]
    _, by_clinic, groups = open_prepared(long, ["y0"], 0, NETWORK, by="clinic", group="patient")
    split = by_clinic.splits["data"]
    assert not set(long["patient"][split.train]) & set(long["patient"][split.test])
    assert groups["data"].tolist() == long["patient"][split.train].tolist()
    assert by_clinic.data["data"]["inputs"] == ["x0", "who"]


def test_verified_on_test_rows_of_other_patients_by_the_command(tmp_path, monkeypatch):
    table = visits(8, 12)
    table.to_csv(tmp_path / "v.csv", index=False)
    seen = []
    monkeypatch.setattr(module, "half", lambda *given: seen.append(half(*given)) or seen[-1])
    asked = ["--targets", "y0,y1", "--group", "patient", "--groups", "2", "--json", "--set", "training.epochs=2"]
    network = ["--set", "encoder={name: mlp, widths: [8]}"]
    done = CliRunner().invoke(app, ["affinity", str(tmp_path / "v.csv"), *asked, *network])
    assert done.exit_code == 0, done.output
    record = AffinityRecord.from_json(json.loads(done.stdout))
    assert record.settings["recipe"]["split"]["column"] == "patient"
    assert record.grouping.chosen.verified is not None
    split = seen[0][0].splits["v"]
    assert not set(table["patient"][split.train]) & set(table["patient"][split.test])
    assert not who(seen[0][0].train["v"]) & who(seen[1][0].train["v"])


def test_arms_of_a_study_halve_its_training_rows_by_patient(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "half", lambda *given: seen.append(half(*given)) or seen[-1])
    Study(
        visits(24, 6),
        TARGETS[:3],
        arms=["joint", "single", "grouped"],
        protocol=Protocol(folds=2, group="patient"),
        **NETWORK,
        engine={"name": "local", "workers": 1},
    ).run()
    assert seen
    for (first, _), (second, _) in zip(seen[::2], seen[1::2], strict=True):
        assert not who(first.train["data"]) & who(second.train["data"])
