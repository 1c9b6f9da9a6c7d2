"""A budget leaves arms out, but never those that a verdict and a recommendation need."""

import numpy as np
import pandas as pd

from polytask import Study
from polytask.study import Protocol
from polytask.study.budget import DEFAULT_ARMS, NEEDED, Budget, with_search

QUICK = {"training": {"epochs": 2}, "encoder": {"name": "mlp", "widths": [4]}}


def test_a_verdict_and_the_strong_outsider_are_needed_whatever_they_cost():
    budget = Budget(10, n_folds=5)
    for arm in DEFAULT_ARMS:
        is_kept = not budget.why_not_try(arm) and not budget.why_not_keep(arm, cost=100.0)
        assert is_kept == (arm in NEEDED), arm
    assert set(budget.costs) == {"single", "joint", "boosting"}
    assert budget.folds() == 3


def test_arms_that_search_come_after_the_needed_ones():
    arms = with_search(DEFAULT_ARMS)
    assert arms.index("searched") > max(arms.index(arm) for arm in NEEDED)
    assert arms.index("tuned_weights") < arms.index("joint_forest")


def test_a_study_without_time_still_compares_with_boosting():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(90, 3)), columns=["a", "y", "z"])
    study = Study(frame, ["y", "z"], budget=0.01, protocol=Protocol(folds=3), **QUICK)
    record = study.run()
    assert set(record.arms) == set(NEEDED)
    assert set(record.left_out) == set(DEFAULT_ARMS) - set(NEEDED)
    assert record.recommendation.best_outsider == "boosting"
