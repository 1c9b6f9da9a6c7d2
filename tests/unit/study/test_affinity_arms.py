"""Arms made from affinity: groups and helpers, measured inside the fold, in the record and the bundle."""

import numpy as np
import pytest

from polytask import load
from polytask.data.generators import clustered_tasks
from polytask.errors import RecipeError, UnknownNameError
from polytask.records import StudyRecord
from polytask.study import Protocol, Study
from polytask.study.naming import make_arm

NETWORK = {"encoder": {"name": "mlp", "widths": [8]}, "training": {"epochs": 3, "batch_size": 64}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    made = clustered_tasks((2, 2), 240, n_inputs=8, missing=0.1)
    done = Study(
        made.frame,
        list(made.targets),
        arms=["grouped:label_correlation@2", "helpers:label_correlation@1", "single"],
        protocol=Protocol(folds=3),
        out=out,
        **NETWORK,
    )
    done.run()
    return done, made, out


def test_groups_and_helpers_are_those_that_were_planted(study):
    record = study[0].record
    grouped = record.affinity["grouped:label_correlation@2"]
    assert grouped["groups"] == [["y0", "y1"], ["y2", "y3"]]
    helpers = record.affinity["helpers:label_correlation@1"]
    assert helpers["groups"] == [["y0", "y1"], ["y0", "y1"], ["y2", "y3"], ["y2", "y3"]]
    assert helpers["serves"] == [["y0"], ["y1"], ["y2"], ["y3"]]
    for arm in record.affinity:
        assert set(record.arms[arm].error) == {"y0", "y1", "y2", "y3"}
        assert all(error.mean is not None for error in record.arms[arm].error.values())


def test_the_record_is_read_back(study):
    assert StudyRecord.load(study[2]).affinity == study[0].record.affinity


@pytest.mark.parametrize("arm", ["grouped:label_correlation@2", "helpers:label_correlation@1"])
def test_a_bundle_of_networks_that_serve_part_of_their_tasks_is_read_back(arm, tmp_path):
    made = clustered_tasks((2, 1), 150, n_inputs=8)
    done = Study(made.frame, list(made.targets), arms=[arm], protocol=Protocol(folds=3), out=tmp_path, **NETWORK)
    done.run()
    rows = made.frame[:5]
    kept = load(tmp_path / "bundle")
    for task, answer in done.bundle.predict(rows).items():
        np.testing.assert_array_equal(kept.predict(rows)[task].values, answer.values)
    assert {task for model in kept.models for task in model.tasks} == set(made.targets)


def test_names_are_checked_before_anything_is_trained():
    with pytest.raises(UnknownNameError, match="No measure named 'cosine'"):
        make_arm("grouped:cosine")
    with pytest.raises(RecipeError, match="whole number"):
        make_arm("helpers@0.5")
    with pytest.raises(RecipeError, match="has no balancer"):
        make_arm("grouped+pcgrad")
    assert "at most 3 groups" in make_arm("grouped:lookahead@3").words
    assert "at most 2 helper tasks" in make_arm("helpers@2").words


def test_a_helped_task_without_a_validation_label_stops_by_all_tasks_of_its_network():
    made = clustered_tasks((3,), 120, n_inputs=4)
    frame = made.frame.assign(part=["train"] * 70 + ["validation"] * 20 + ["test"] * 30)
    frame.loc[70:89, "y2"] = np.nan
    done = Study(frame, list(made.targets), arms=["helpers@1", "single"], protocol=Protocol(split="part"), **NETWORK)
    assert done.run().arms["helpers@1"].error["y2"].mean is not None
