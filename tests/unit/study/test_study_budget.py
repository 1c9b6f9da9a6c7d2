"""A budget leaves arms out, but never those that a verdict and a recommendation need."""

import multiprocessing

import numpy as np
import pandas as pd

from polytask import Study
from polytask.cli.verdicts import print_study
from polytask.study import Protocol
from polytask.study.budget import DEFAULT_ARMS, NEEDED, Budget, with_search
from polytask.study.terms import SEARCHED
from polytask.study.threads import limited_threads
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
    assert "whatever the budget is, boosting, joint, single are trained on at least 3 folds" in said


def test_time_is_left_for_repetitions_only_if_the_first_took_no_longer_than_planned():
    budget = Budget(100, n_folds=5)
    assert not budget.why_not_keep("linear", cost=2.0)
    assert budget.repeats(spent=10.0) == 4
    assert budget.repeats(spent=40.0) == 2
    assert budget.overrun(spent=99.0) == ""
    assert "took about 130 s" in budget.overrun(spent=130.0)
    assert "longer than was planned from those of the first fold" in budget.overrun(spent=50.0, elapsed=130.0)
