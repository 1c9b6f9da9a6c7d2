"""Bundles of several models: the mean of answers, and nothing that runs when they are read."""

import json

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import FunctionTransformer, make_pipeline
from study_data import mixed_table

from polytask.bundle import Estimators, Member, load
from polytask.bundle.columns import Column
from polytask.bundle.model import Reading, written
from polytask.errors import BundleError
from polytask.study import Protocol, Study
from polytask.study.choice import choose_all
from polytask.tasks import Regression


@pytest.fixture
def task():
    made = Regression(name="y")
    made.fit(np.random.default_rng(0).normal(size=60))
    return made


def boosted(n_inputs: int = 3):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, n_inputs))
    return HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=2).fit(X, X[:, 0])


def entry_of(estimator, folder, task):
    member = Member(estimator, [Column("y", 0, "number")])
    return Estimators("data", [task], [member]).write(folder, "model-0")


def test_estimators_come_back(task, tmp_path):
    estimator = boosted()
    read = Estimators.read(entry_of(estimator, tmp_path, task), Reading(tmp_path, {"y": task}))
    X = np.random.default_rng(1).normal(size=(9, 3))
    assert (read.members[0].estimator.predict(X) == estimator.predict(X)).all()


def harmful(values):
    raise AssertionError("code of a file was run")


def test_a_function_in_a_file_is_not_loaded(task, tmp_path):
    rng = np.random.default_rng(0)
    pipeline = make_pipeline(FunctionTransformer(np.abs), Ridge()).fit(rng.normal(size=(9, 2)), rng.normal(size=9))
    pipeline.steps[0][1].func = harmful
    entry = entry_of(pipeline, tmp_path, task)
    with pytest.raises(BundleError, match="types that no bundle"):
        Estimators.read(entry, Reading(tmp_path, {"y": task}))


def test_an_estimator_of_another_kind_is_refused(task, tmp_path):
    rng = np.random.default_rng(0)
    entry = entry_of(Ridge().fit(rng.normal(size=(9, 2)), rng.normal(size=9)), tmp_path, task)
    with pytest.raises(BundleError, match="Ridge"):
        Estimators.read(entry, Reading(tmp_path, {"y": task}))


@pytest.mark.parametrize("field", ["left", "right", "feature_idx"])
def test_trees_that_lead_out_of_themselves_are_refused(field, task, tmp_path):
    estimator = boosted()
    nodes = estimator._predictors[0][0].nodes
    nodes[field][nodes["is_leaf"] == 0] = 10_000
    entry = entry_of(estimator, tmp_path, task)
    with pytest.raises(BundleError, match="not there"):
        Estimators.read(entry, Reading(tmp_path, {"y": task}))


def test_a_file_that_was_changed_is_refused(task, tmp_path):
    entry = entry_of(boosted(), tmp_path, task)
    (tmp_path / "model-0.skops").write_bytes(skops.io.dumps([boosted(4)]))
    with pytest.raises(BundleError, match="altered"):
        Estimators.read(entry, Reading(tmp_path, {"y": task}))
    with pytest.raises(BundleError):
        Estimators.read(written(tmp_path / "model-0.skops", **{**entry, "members": []}), Reading(tmp_path, {"y": task}))


def test_no_pickle_is_in_a_bundle_and_the_mean_of_two_models_is_the_mean(tmp_path):
    frame = mixed_table(120)[["a", "b", "c", "d", "town", "price", "ill"]]
    study = Study(
        frame, ["price", "ill"], arms=["linear", "boosting"], protocol=Protocol(folds=2), out=tmp_path / "run"
    )
    study.run()
    bundle = study.bundle
    both = range(len(bundle.models))
    answers = {}
    for task in ("price", "ill"):
        able = [i for i in both if task in bundle.models[i].tasks]
        answers[task] = able
    bundle.answers = answers
    bundle.save(tmp_path / "both")
    read = load(tmp_path / "both")
    assert {file.suffix for file in (tmp_path / "both").iterdir()} <= {".json", ".safetensors", ".skops"}
    assert b"pickle" not in b"".join(file.read_bytes() for file in (tmp_path / "both").iterdir())
    parts = []
    for position in answers["price"]:
        bundle.answers = {"price": [position]}
        parts.append(bundle.predict(frame, ["price"])["price"].values)
    np.testing.assert_allclose(read.predict(frame, ["price"])["price"].values, np.mean(parts, axis=0), rtol=1e-5)
    content = json.loads((tmp_path / "both" / "bundle.json").read_text())["content"]
    assert {model["kind"] for model in content["models"]} <= {"lines", "estimators"}


def test_a_folder_gone_on_with_has_the_bundle_that_its_record_recommends(tmp_path, monkeypatch):
    def study():
        arms = ["linear", "boosting"]
        return Study(mixed_table(), ["price"], arms=arms, protocol=Protocol(folds=3), out=tmp_path, resume=True)

    first = study()
    before = first.run().recommendation.arms["price"]
    other = "linear" if before != "linear" else "boosting"

    def decided_otherwise(*args):
        chosen = choose_all(*args)
        chosen.final["price"] = (other,)
        return chosen

    stamp = (tmp_path / "bundle" / "bundle.json").stat().st_mtime_ns
    study().run()
    assert (tmp_path / "bundle" / "bundle.json").stat().st_mtime_ns == stamp, "not made anew without need"
    monkeypatch.setattr("polytask.study.study.choose_all", decided_otherwise)
    again = study()
    assert again.run().recommendation.arms["price"] == other
    kept = load(tmp_path / "bundle")
    assert kept.provenance["recommendation"] == {"price": other}
    rows = mixed_table()[:9]
    np.testing.assert_array_equal(kept.predict(rows)["price"].values, again.bundle.predict(rows)["price"].values)
    assert (kept.predict(rows)["price"].values != first.bundle.predict(rows)["price"].values).any()
