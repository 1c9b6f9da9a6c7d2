"""A task with a patience of its own, in a study: the network that answers it is the one of its own best epoch."""

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.affinity.ground import Ground
from polytask.bundle import Network
from polytask.recipe import Recipe
from polytask.study import Protocol, Study
from polytask.study.affinities import Served
from polytask.study.arm import learn, outputs_of
from polytask.study.folds import make_fold
from polytask.study.inner import inner_errors
from polytask.study.naming import make_arm
from polytask.training.evaluation import mean_losses
from polytask.training.opening import make_tasks, open_data
from polytask.training.planning import plan_of
from polytask.training.run import fit

TASKS = {"noise": {"kind": "regression", "patience": 1}, "learned": "regression"}
ENCODER = {"name": "mlp", "widths": [8]}
TRAINING = {"epochs": 12, "batch_size": 16, "learning_rate": 0.03, "patience": 30}


def table(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    noise, learned = rng.normal(size=n), x @ [1.0, 0.2, -1.0]
    return pd.DataFrame({**{f"x{i}": x[:, i] for i in range(3)}, "noise": noise, "learned": learned})


@pytest.fixture(scope="module")
def fold():
    recipe = Recipe(tasks=TASKS, encoder=ENCODER, training=TRAINING)
    (data,) = open_data(recipe, {"data": table()})
    tasks, _ = make_tasks(recipe, [data])
    repeat, number, split = Protocol(folds=2).splits(data, tasks)[0]
    return make_fold(data, tasks, lambda prepared: plan_of(recipe, prepared), (repeat, number), 0, split).data


@pytest.fixture(scope="module")
def fitted(fold):
    found = fit(fold.prepared, fold.plan)
    assert found.bundle.answers == {"noise": [1]}, "the test needs a task that is best in another epoch"
    return found


def lowest(fitted, task):
    return min(line["validation"][task] for line in fitted.history)


def test_each_network_of_a_bundle_serves_what_it_answers(fitted):
    assert [network.tasks for network in fitted.bundle.networks] == [("learned",), ("noise",)]
    assert fitted.bundle.models[0].tasks == ("noise", "learned"), "the bundle itself is as it was"


def test_losses_are_those_of_the_networks_that_answer(fold, fitted):
    found = fitted.mean_losses(fold.tasks, fold.prepared.validation)
    first = mean_losses(fitted.model, fold.tasks, fold.prepared.validation)
    assert found["noise"] == pytest.approx(lowest(fitted, "noise"), rel=1e-5)
    assert found["noise"] < first["noise"]
    assert found["learned"] == pytest.approx(first["learned"], rel=1e-6)
    ground = Ground(fold.prepared, fold.plan, 0)
    assert ground.held_out_losses(fitted, ["noise"])["noise"] == pytest.approx(found["noise"], rel=1e-6)


def test_the_joint_arm_answers_by_the_network_of_the_tasks_best_epoch(fold, fitted):
    arm = learn(make_arm("joint"), fold)
    assert [model.tasks for model in arm.models] == [("learned",), ("noise",)]
    assert arm.n_parameters == sum(model.n_parameters for model in fitted.bundle.models)
    (held,) = fold.prepared.validation.values()
    outputs = outputs_of(arm.models, {held.name: {"": held}})
    for task in fold.tasks:
        loss = task.loss(outputs[task.name], held.targets[task.name], held.observed[task.name]).mean().item()
        assert loss == pytest.approx(lowest(fitted, task.name), rel=1e-5), task.name


def test_groups_inner_errors_and_single_networks_do_so_too(fold, fitted):
    served = Served(fold, None)
    served.train(["noise", "learned"], ["noise"])
    (network,) = served.models
    assert isinstance(network, Network)
    assert network.tasks == ("noise",)
    (own,) = (one for one in fitted.bundle.networks if one.tasks == ("noise",))
    for name, value in own.model.state_dict().items():
        assert torch.equal(network.model.state_dict()[name], value), name
    first = inner_errors(fold, fitted.bundle.models[:1])
    errors = inner_errors(fold, fitted.bundle.networks)
    assert errors["noise"] < first["noise"]
    assert errors["learned"] == pytest.approx(first["learned"], rel=1e-6)
    alone = learn(make_arm("single"), fold)
    assert [model.tasks for model in alone.models] == [("noise",), ("learned",)]


def test_a_study_says_that_its_last_model_has_no_own_stop():
    asked = {"arms": ["joint"], "protocol": Protocol(folds=2), "encoder": ENCODER, "training": {"epochs": 1}}
    record = Study(table(60), TASKS, **asked).run()
    (said,) = [one["words"] for one in record.warnings if one["kind"] == "own stops"]
    assert "On the folds, noise (with a patience of their own)" in said
