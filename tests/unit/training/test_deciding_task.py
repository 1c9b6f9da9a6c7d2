"""A stop rule that looks at one task, in models that do not have it: each alone, groups of a study or an affinity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from polytask import Recipe, Study
from polytask.affinity.finding import find_affinity
from polytask.affinity.grouping import GroupBudget
from polytask.data.generators import clustered_tasks
from polytask.errors import UnknownNameError
from polytask.study import Protocol
from polytask.training.run import Plan
from polytask.training.settings import Settings

TRAINING = {"epochs": 2, "batch_size": 32, "stop_rule": "task:y0"}
NETWORK = {"encoder": {"name": "mlp", "widths": [8]}, "training": TRAINING}
NAMES = ["y0", "y1", "y2"]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return clustered_tasks((2, 1), 150, n_inputs=5).frame


@pytest.mark.parametrize("constraints", [[], ["all.loss<=single+5%"]])
def test_every_single_model_is_trained(frame, constraints):
    run = Recipe(tasks=NAMES, constraints=constraints, **NETWORK).run(frame, compare=not constraints)
    assert all(task.single is not None for task in run.record.tasks.values())
    losses = [line["validation"]["y0"] for line in run.history]
    if not constraints:
        assert run.record.best_epoch == int(np.argmin(losses)), "the joint model is still decided by the task"


@pytest.mark.parametrize("arms", [["single", "joint"], ["single"], ["constant", "grouped:gradient_cosine@2"]])
def test_a_study_trains_arms_without_the_task(frame, arms):
    record = Study(frame, NAMES, arms=arms, protocol=Protocol(folds=2), **NETWORK).run()
    assert set(arms) <= set(record.arms)


def test_an_affinity_trains_groups_without_the_task(frame):
    budget = GroupBudget(models=2)
    record = find_affinity(frame, NAMES, measures=["gradient_cosine"], budget=budget, seeds=1, **NETWORK)
    assert record.grouping is not None
    assert record.grouping.chosen.verified is not None


@pytest.mark.parametrize(("arms"), [["single"], ["joint"]])
def test_a_name_that_is_no_task_is_still_refused(frame, arms):
    wrong = {**NETWORK, "training": {**TRAINING, "stop_rule": "task:y9"}}
    with pytest.raises(UnknownNameError, match="y9"):
        Study(frame, NAMES, arms=arms, protocol=Protocol(folds=2), **wrong).run()
    with pytest.raises(UnknownNameError, match="y9"):
        Recipe(tasks=NAMES, **wrong).run(frame, compare=True)


def test_the_plan_of_a_group_keeps_the_rule_where_it_can():
    plan = Plan(settings=Settings(stop_rule="task:a"))
    assert plan.of(["a", "b"]) is plan
    assert plan.of(["b"]).settings.stop_rule == plan.alone().settings.stop_rule == "mean_rank"
    assert Plan(settings=Settings(stop_rule="worst")).alone().settings.stop_rule == "worst"
