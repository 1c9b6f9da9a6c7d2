"""A budget leaves arms out, but never those that a verdict and a recommendation need."""

import multiprocessing
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from polytask import Study
from polytask.cli.verdicts import print_study
from polytask.data.splits import Split
from polytask.errors import RunFolderError
from polytask.records import ArmResult, Recommendation, StudyRecord
from polytask.study import Protocol
from polytask.study import study as study_module
from polytask.study.bench import Place, PlannedTrial
from polytask.study.budget import DEFAULT_ARMS, NEEDED, Budget, with_search
from polytask.study.store import Store, Trial, keep_trial
from polytask.study.terms import SEARCHED
from polytask.study.threads import limited_threads
from polytask.study.trainings import Trainings
from polytask.trees import JointForest

QUICK = {"training": {"epochs": 2}, "encoder": {"name": "mlp", "widths": [4]}}


def test_a_verdict_and_the_strong_outsider_are_needed_whatever_they_cost():
    budget = Budget(10, n_folds=5)
    for arm in DEFAULT_ARMS:
        is_kept = not budget.why_not_try(arm) and not budget.why_not_keep(arm, cost=100.0)
        assert is_kept == (arm in NEEDED), arm
    assert set(budget.costs) == {"single", "joint", "boosting"}
    assert budget.folds() == 3


def test_a_worker_s_forest_asks_for_threads_and_no_processes(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # as workers are
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(60, 2)), rng.normal(size=(60, 1))
    for threads in (1, 2):
        with limited_threads(threads):  # a warning would be an error
            forest = JointForest(n_estimators=5, n_jobs=-1, random_state=0).fit(inputs, labels)
            assert forest.predict(inputs).shape[0] == 60


def test_arms_that_search_come_after_the_needed_ones():
    arms = with_search(DEFAULT_ARMS)
    assert arms.index("searched") > max(arms.index(arm) for arm in NEEDED)
    assert arms.index("tuned_weights") < arms.index("joint_forest")
    assert [arm for arm in arms[: arms.index("searched")] if arm not in NEEDED] == ["linear"]  # a matter of moments


def test_a_search_that_was_asked_for_and_left_out_is_said_first(capsys):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(90, 3)), columns=["a", "y", "z"])
    record = Study(frame, ["y", "z"], budget=0.01, protocol=Protocol(folds=3), search={"trials": 2}, **QUICK).run()
    assert set(SEARCHED) < set(record.left_out)
    print_study(record)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("Asked for and not run: searched (not tried: the arms before it take about")
    assert "linear" not in first  # left out too, but nobody named it


def test_a_study_without_time_still_compares_with_boosting():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(90, 3)), columns=["a", "y", "z"])
    study = Study(frame, ["y", "z"], budget=0.01, protocol=Protocol(folds=3), **QUICK)
    record = study.run()
    assert set(record.arms) == set(NEEDED)
    assert set(record.left_out) == set(DEFAULT_ARMS) - set(NEEDED)
    assert record.recommendation.best_outsider == "boosting"
    (said,) = [warning["words"] for warning in record.warnings if warning["kind"] == "budget"]
    assert "more than the budget of 0.01 s" in said
    assert "whatever the budget is, boosting, joint, single are trained at least 3 times" in said


def test_time_is_left_for_repetitions_only_if_the_first_took_no_longer_than_planned():
    budget = Budget(100, n_folds=5)
    assert not budget.why_not_keep("linear", cost=2.0)
    assert budget.repeats(spent=10.0) == 4
    assert budget.repeats(spent=40.0) == 2
    assert budget.overrun(spent=99.0) == ""
    assert "took about 130 s" in budget.overrun(spent=130.0)
    assert "longer than was planned from those of the first fold" in budget.overrun(spent=50.0, elapsed=130.0)


def test_a_larger_budget_goes_on_with_what_there_was_no_time_for(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "DEFAULT_ARMS", ("joint", "single", "boosting", "linear"))
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(90, 3)), columns=["a", "y", "z"])
    options = {"protocol": Protocol(folds=4), "out": tmp_path / "run", **QUICK}
    short = Study(frame, ["y", "z"], budget=0.01, **options).run()
    assert set(short.left_out) == {"linear", "1 of 4 folds"}
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "trials").rglob("*.json")}
    again = Study(frame, ["y", "z"], budget=None, resume=True, **options)
    longer = again.run()
    assert not longer.left_out
    assert len(longer.folds) == 4
    assert longer.arms["joint"].errors["y"][:3] == short.arms["joint"].errors["y"], "what was trained is kept"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    errors = {task: interval.mean for task, interval in longer.recommendation.error.items()}
    assert {task: found["relative_error"] for task, found in again.bundle.metrics.items()} == errors
    with pytest.raises(RunFolderError, match=r"recipe\.training"):
        Study(frame, ["y", "z"], resume=True, **{**options, "training": {"epochs": 3}}).run()


def test_a_search_that_time_spared_is_done_when_there_is_time(tmp_path):
    searched, spared = Trial("searched", search={"best": 1}), Trial("searched")
    place = Place(0, 1, Split(np.arange(2), np.arange(2), np.arange(2)))
    trainings = Trainings.__new__(Trainings)
    trainings.store, trainings.given, trainings._searching = Store(None), {}, {"searched"}
    for trial, is_known in ((searched, True), (spared, False), (Trial("searched", "diverged"), True)):
        keep_trial(trainings.store, trial, {}, 0, 1)
        assert (trainings._load(PlannedTrial("searched", place)) is not None) == is_known
    trainings.given = {"searched": {}}
    keep_trial(trainings.store, spared, {}, 0, 1)
    assert trainings._load(PlannedTrial("searched", place)) is not None


def test_arms_that_there_was_no_time_for_are_one_line(capsys):
    left = {
        "forest": "it would take about 8 s, and 3 s of the budget are left",
        "chains": "not tried: ... budget of 9 s",
    }
    arms = {
        "single": ArmResult(
            "single", "", {}, {}, {}, None, None, 0, 0, 0, ("2 networks of one shape were trained at once.",)
        )
    }
    chosen = Recommendation({}, "Nothing can be recommended.", {}, {}, None, None, {})
    print_study(StudyRecord({}, (), arms, {}, chosen, {**left, "pooled": "one task only"}))
    lines = capsys.readouterr().out.splitlines()
    out = [line for line in lines if line.startswith("Left out")]
    assert [line.partition(":")[2].split(";")[0] for line in out] == [" forest, chains", " pooled: one task only"]
    assert not any("at once" in line for line in lines)


def test_a_search_done_once_is_counted_once_and_not_for_each_repetition():
    budget = Budget(100, n_folds=5, needed=("single", "joint"))
    assert not budget.why_not_keep("single", cost=2.0)
    assert not budget.why_not_keep("joint", cost=2.0)
    assert budget.first_only("searched", cost=60.0, later=2.0)
    assert budget.overrun(spent=88.0) == ""
    assert budget.why_not_keep("forest", cost=20.0)  # a trial of an arm that is left out is no part of what is spent
    assert "took about 108 s" in budget.overrun(spent=88.0)
    more = Budget(200, n_folds=5, needed=("single", "joint"))
    assert not more.why_not_keep("single", cost=2.0)
    assert more.first_only("searched", cost=60.0, later=2.0)
    assert more.repeats(spent=10.0 + 60.0 + 8.0) == 4


def test_why_a_budget_was_exceeded_is_said_in_its_own_numbers():
    budget = Budget(60, n_folds=5)
    assert not budget.why_not_keep("single", cost=2.0)
    assert "took about 60.2 s, more than the budget of 60 s" in budget.overrun(spent=60.2)
    assert "took about 62 s, more than the budget of 60 s" in budget.overrun(spent=61.7)
    two = Budget(10, n_folds=2)
    assert not two.why_not_keep("single", cost=4.0)  # 8 s of two folds are within the budget, 12 s of three are not
    assert "longer than was planned" in two.overrun(spent=10.4)
    for n_folds, times in ((1, "single are trained once."), (2, "single are trained at least 2 times.")):
        short = Budget(0.5, n_folds)
        assert not short.why_not_keep("single", cost=2.0)
        assert times in short.overrun(spent=4.0)


@pytest.mark.parametrize(("arm", "is_loaded"), [("linear", False), ("joint", True)])
def test_only_studies_that_train_networks_load_the_compiler(arm, is_loaded):
    code = f"""
import sys
import numpy as np, pandas as pd
from polytask import Study
from polytask.study import Protocol
frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["a", "y", "z"])
Study(frame, ["y", "z"], arms=[{arm!r}], protocol=Protocol(folds=2), **{QUICK!r}).run()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(is_loaded)]
