"""Settings of single tasks: learning rates, schedules, warm-up, early stopping, where a task is defined, row weights."""

from __future__ import annotations

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe, load
from polytask.data.batch import ArraySource
from polytask.errors import DataError, PolytaskError, RecipeError, TargetError
from polytask.models.building import build_model
from polytask.models.spec import ModelSpec
from polytask.tasks import Regression
from polytask.training.building import network_of
from polytask.training.data_sets import ArrayData
from polytask.training.interruption import Interrupted
from polytask.training.objective import Objective
from polytask.training.opening import prepare_recipe
from polytask.training.optimisation import Optimisation
from polytask.training.own_ways import OwnWays
from polytask.training.planning import plan_of
from polytask.training.progress import Silent
from polytask.training.run import training_of
from polytask.training.settings import Settings
from polytask.training.task_control import TaskControl


def table(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    ill = np.where(x[:, 0] + rng.normal(size=n) > 0, "yes", "no").astype(object)
    ill[rng.random(n) < 0.2] = None
    stay = np.exp(x[:, 1] + 0.2 * rng.normal(size=n))
    return pd.DataFrame(
        {
            **{f"x{i}": x[:, i] for i in range(3)},
            "ill": ill,
            "stay": stay,
            "noise": rng.normal(size=n),
            "trust": rng.uniform(0, 2, size=n),
        }
    )


def recipe(tasks, **changes) -> Recipe:
    settings = {
        "data": {"t": {"inputs": ["x0", "x1", "x2"]}},
        "encoder": {"name": "mlp", "widths": [16]},
        "training": {"epochs": 6, "batch_size": 25, "learning_rate": 0.01, "weight_decay": 0.0, "stop_rule": "mean"},
    }
    return Recipe(tasks=tasks, **{**settings, **changes})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0}, "Task 'stay': learning_rate must be a number above 0"),
        ({"warmup": 1}, "Task 'stay': warmup is a share of the steps"),
        ({"patience": 0}, "Task 'stay': patience must be at least 1"),
        (
            {"schedule": "cosin"},
            "Task 'stay': schedule needs one of constant, cosine, plateau, got 'cosin' .did you mean 'cosine'",
        ),
        ({"patience": "long"}, "Task 'stay': patience needs a whole number, got 'long'"),
    ],
)
def test_what_cannot_be_used_is_said_when_the_recipe_is_made(options, message):
    with pytest.raises(RecipeError, match=message):
        recipe({"stay": {"kind": "regression", **options}})


def training_of_one(tasks, **settings):
    asked = recipe(tasks, training={"epochs": 4, "batch_size": 25, **settings})
    prepared = prepare_recipe(asked, table())
    plan = plan_of(asked, prepared)
    return training_of(network_of(prepared, plan)[1], plan, prepared, plan.settings)


def trained(tasks, **changes):
    """The training's optimisation as it was, step by step."""
    rates: list[dict[str, float]] = []
    original = Optimisation.step

    def step(self):
        rates.append({f"{g['owner']}{g['factor']:g}": g["lr"] for g in self.optimiser.param_groups})
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimisation, "step", step)
        run = recipe(tasks, **changes).run(table())
    return run, rates


def test_a_task_has_its_own_learning_rate_and_schedule():
    _, rates = trained({"stay": {"kind": "regression", "learning_rate": 0.03, "schedule": "cosine"}, "noise": {}})
    assert {name: rates[0][name] for name in rates[0]} == pytest.approx({"1": 0.01, "stay3": 0.03})
    assert rates[-1]["1"] == pytest.approx(0.01)
    assert rates[-1]["stay3"] == pytest.approx(0.03 * 0.5 * (1 + np.cos(np.pi * (len(rates) - 1) / len(rates))))


def test_a_plateau_follows_its_own_task():
    _, rates = trained(
        {"stay": {"kind": "regression"}, "noise": {"kind": "regression", "schedule": "plateau"}},
        training={"epochs": 14, "batch_size": 25, "learning_rate": 0.05, "patience": 4},
    )
    assert rates[-1]["noise1"] < rates[0]["noise1"], "what cannot be learned overfits, so its rate falls"
    assert rates[-1]["1"] == rates[0]["1"]


def test_a_warm_up_raises_the_weight_of_a_loss():
    run, _ = trained({"stay": {"kind": "regression", "warmup": 0.9}, "noise": "regression"})
    plain, _ = trained({"stay": "regression", "noise": "regression"})
    assert run.history[0]["train"]["stay"] < 0.5 * plain.history[0]["train"]["stay"]
    assert run.history[0]["train"]["noise"] == pytest.approx(plain.history[0]["train"]["noise"], rel=0.2)


def test_a_task_stops_and_keeps_its_best_epoch(tmp_path):
    asked = recipe(
        {"stay": "regression", "noise": {"kind": "regression", "patience": 2}},
        training={"epochs": 20, "batch_size": 25, "learning_rate": 0.02, "patience": 20},
    )
    run = asked.run(table(), out=tmp_path / "run")
    losses = [line["validation"]["noise"] for line in run.history]
    stopped = run.history[-1]["stopped"]["noise"]
    assert stopped < len(run.history), "the other task goes on"
    best = int(np.argmin(losses[:stopped]))
    assert stopped == best + 2 + 1
    assert "noise" in run.history[stopped - 1]["train"]
    assert "noise" not in run.history[stopped]["train"], "a stopped task has no loss any more"
    joint, own = run.bundle.models
    assert run.bundle.answers == {"noise": [1]}
    assert all(parameter.requires_grad for parameter in own.model.parameters())
    head = dict(own.model.heads.named_parameters(prefix="heads"))
    assert head, "the network of the best epoch has a head"
    for name, parameter in head.items():
        assert not torch.equal(parameter, joint.model.get_parameter(name)), f"{name} is that of the last epoch"
    assert any(f"own best epoch, {best + 1}" in note for note in run.record.notes)
    again = load(tmp_path / "run")
    for name, answer in again.predict(table(20, 3)).items():
        assert np.array_equal(answer.values, run.predict(table(20, 3))[name].values)
    prepared = prepare_recipe(asked, table())
    found = prepared.tasks[1].loss(
        own.outputs(prepared.validation["t"], ["noise"])["noise"], prepared.validation["t"].targets["noise"],
        prepared.validation["t"].observed["noise"],
    )  # fmt: skip
    assert found.mean().item() == pytest.approx(losses[best], rel=1e-5)


def test_private_parameters_of_a_stopped_task_do_not_move():
    held = []
    original = Optimisation.step

    def step(self):
        original(self)
        held.append([p.detach().clone() for p in heads["noise"]])

    heads = {}
    from polytask.training.loop import Training

    begin = Training.__init__

    def init(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        heads["noise"] = self.own.owned_by("noise")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimisation, "step", step)
        patch.setattr(Training, "__init__", init)
        run = recipe(
            {"stay": "regression", "noise": {"kind": "regression", "patience": 1}},
            training={"epochs": 12, "batch_size": 25, "learning_rate": 0.05, "weight_decay": 0.1, "patience": 12},
        ).run(table())
    stopped = run.history[-1]["stopped"]["noise"]
    steps = run.history[stopped - 1]["step"]
    assert len(held) > steps
    assert all(torch.equal(a, b) for a, b in zip(held[steps - 1], held[-1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(held[0], held[steps - 1], strict=True))


def test_when_every_task_has_stopped_the_training_ends():
    run = recipe(
        {"noise": {"kind": "regression", "patience": 1}},
        training={"epochs": 50, "batch_size": 25, "learning_rate": 0.05},
    ).run(table())
    assert run.record.epochs < 50
    assert run.record.epochs == run.history[-1]["stopped"]["noise"]


def test_a_patience_and_a_constraint_contradict_each_other():
    with pytest.raises(RecipeError, match="has a patience of its own"):
        recipe({"stay": {"kind": "regression", "patience": 3}}, constraints=["stay.loss<=1"]).run(table())


@pytest.mark.parametrize("condition", [{"ill": True}, {"ill": "yes"}, {"ill": ["yes", "maybe"]}])
def test_a_task_is_only_defined_where_another_column_says_so(condition):
    asked = recipe({"ill": "binary", "stay": {"kind": "regression", "only_where": condition}})
    prepared = prepare_recipe(asked, table())
    frame = table()
    for part in ("train", "validation", "test"):
        rows = getattr(prepared.splits["t"], part)
        expected = (frame["ill"].iloc[rows] == "yes").to_numpy()
        assert np.array_equal(getattr(prepared, part)["t"].observed["stay"].numpy(), expected)
    fitted = prepared.tasks[1]
    train = frame.iloc[prepared.splits["t"].train]
    alone = Regression(name="stay")
    alone.fit(train.loc[train["ill"] == "yes", "stay"].to_numpy())
    assert fitted.state() == alone.state(), "the codec learns from rows where the task is defined"
    run = asked.run(table())
    assert run.record.tasks["stay"].n_train == int((train["ill"] == "yes").sum())
    assert len(run.predict(table(10))["stay"].values) == 10


def test_a_condition_on_arrays_reads_labels_and_columns():
    data = ArrayData(
        "t", np.zeros((4, 1)), {"a": np.array([1, 0, 1, 0]), "b": np.arange(4)}, {"c": ["u", "u", "v", "v"]}
    )
    data.conditions = {"b": {"a": 1, "c": "u"}}
    assert np.array_equal(data.labels(Regression(name="b")), [0, np.nan, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(data.labels(Regression(name="a")), [1, 0, 1, 0])
    data.conditions = {"b": {"d": 1}}
    with pytest.raises(DataError, match="'d'"):
        data.labels(Regression(name="b"))


def test_a_condition_that_no_row_fulfils_is_said():
    with pytest.raises(
        TargetError, match=r"only defined where ill is 'maybe', and no row of 't' is. Values .* no, yes"
    ):
        prepare_recipe(recipe({"stay": {"kind": "regression", "only_where": {"ill": "maybe"}}}), table())


def test_row_weights_of_one_task_are_factors_on_its_losses():
    task, other = Regression(name="a"), Regression(name="b")
    for one in (task, other):
        one.fit(np.array([0.0, 1.0]))
    y = torch.tensor([0.0, 1.0, 2.0])
    seen = torch.tensor([True, True, False])
    source = ArraySource(
        "t", torch.zeros(3, 1), {"a": y, "b": y}, {"a": seen, "b": seen}, torch.tensor([1.0, 2.0, 3.0]),
        {"a": torch.tensor([0.5, 0.0, 9.0])},
    )  # fmt: skip
    outputs = {"a": torch.zeros(3, 1), "b": torch.zeros(3, 1)}
    found = Objective([task, other], {"t": source})(outputs, source.batch(torch.arange(3)))
    labels = task.loss(outputs["a"], y, seen)
    assert found["a"].item() == pytest.approx((labels * torch.tensor([0.5, 0.0])).sum().item() / 2)
    assert found["b"].item() == pytest.approx((labels * torch.tensor([1.0, 2.0])).sum().item() / 2)


def test_row_weights_come_from_a_column_that_is_no_input():
    asked = recipe({"stay": {"kind": "regression", "row_weights": "trust"}, "noise": "regression"}, data={})
    prepared = prepare_recipe(asked, table())
    rows = prepared.splits["data"].train
    weights = prepared.train["data"].task_weights
    assert list(weights) == ["stay"]
    assert np.allclose(weights["stay"].numpy(), table()["trust"].to_numpy()[rows])
    assert "trust" not in prepared.data["data"]["inputs"]
    bad = table()
    bad.loc[3, "trust"] = -1
    with pytest.raises(PolytaskError, match="row 3 of 'data' has"):
        prepare_recipe(asked, bad)
    with pytest.raises(DataError, match="No column named 'trust', for row_weights"):
        prepare_recipe(asked, table().drop(columns="trust"))


def test_tasks_of_several_sources_go_their_own_way():
    """A condition, weights and a patience where only one of two sources has the columns."""
    first = table(80).rename(columns={"noise": "other noise"}).drop(columns=["stay", "ill"])
    data = {"first": first.drop(columns="trust"), "second": table(60, 1).drop(columns="noise")}
    tasks = {
        "other noise": {"kind": "regression", "patience": 1},
        "stay": {"kind": "regression", "only_where": {"ill": True}, "row_weights": "trust", "warmup": 0.3},
        "ill": "binary",
    }
    inputs = {"inputs": ["x0", "x1", "x2"]}
    asked = recipe(
        tasks, data={"first": inputs, "second": inputs}, balancer="pcgrad", training={"epochs": 8, "batch_size": 16}
    )
    prepared = prepare_recipe(asked, data)
    assert list(prepared.train["second"].task_weights) == ["stay"]
    assert prepared.train["first"].task_weights == {}
    assert 0 < prepared.train["second"].coverage("stay") < prepared.train["second"].coverage("ill")
    run = asked.run(data)
    stopped = run.history[-1]["stopped"]["other noise"]
    assert stopped < len(run.history), "the others go on"
    assert "other noise" in run.history[stopped - 1]["train"]
    assert set(run.history[stopped]["train"]) == {"stay", "ill"}


def test_without_validation_labels_a_patience_stops_nothing():
    data = table()
    data["part"] = ["train"] * 120 + ["validation"] * 40 + ["test"] * 40
    data.loc[120:159, "noise"] = np.nan
    asked = recipe(
        {"stay": "regression", "noise": {"kind": "regression", "patience": 1}},
        split={"method": "given", "column": "part"},
        training={"epochs": 4, "batch_size": 25},
    )
    run = asked.run(data)
    assert "stopped" not in run.history[-1]
    assert all("noise" in line["train"] for line in run.history)
    assert run.bundle.answers == {}
    assert any("No validation row has a label of noise" in note for note in run.record.notes)


def test_a_loss_that_is_no_number_is_the_worst_of_a_task():
    prepared = prepare_recipe(recipe({"stay": {"kind": "regression", "patience": 2}, "noise": "regression"}), table())
    spec = ModelSpec(prepared.shapes, {"stay": 1, "noise": 1}, encoder="mlp")
    own = OwnWays({"stay": TaskControl(patience=2)}, build_model(spec), Settings(), 10)
    for epoch, loss in enumerate([float("nan"), 2.0, 1.0, float("nan"), 1.5]):
        own.end_epoch(epoch, {"stay": loss})
    assert own.best == {"stay": 2}
    assert own.stopped == {"stay": 5}


@pytest.mark.parametrize("patience", [None, 16])
def test_a_stage_ends_with_the_best_epoch_of_its_patient_task(patience):
    asked = recipe(
        {"noise": {"kind": "regression", "patience": 2}, "stay": "regression"},
        schedule="sequential",
        training={"epochs": 9, "batch_size": 25, "learning_rate": 0.05, "patience": patience},
    )
    run = asked.run(table())
    losses = [line["validation"]["noise"] for line in run.history if line["stage"] == "noise"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 9
    assert run.record.sequence.stages[0].best_epoch == best


def test_a_patient_task_may_decide_for_all():
    tasks = {"stay": "regression", "noise": {"kind": "regression", "patience": 2}}
    training = {"epochs": 5, "batch_size": 25, "stop_rule": "task:noise"}
    run = recipe(tasks, training=training).run(table())
    assert run.record.best_epoch == int(np.argmin([line["validation"]["noise"] for line in run.history]))


def test_what_the_user_had_frozen_stays_frozen_when_a_stopped_task_is_released():
    own = training_of_one({"stay": "regression", "noise": {"kind": "regression", "patience": 1}}).own
    mine = own.owned_by("noise")
    mine[0].requires_grad_(False)
    for epoch in range(2):
        own.end_epoch(epoch, {"stay": 1.0, "noise": 1.0})
    assert own.stopped == {"noise": 2}
    assert not any(p.requires_grad for p in mine)
    own.release()
    assert [p.requires_grad for p in mine] == [False, *[True] * (len(mine) - 1)]


def test_a_plateau_waits_for_the_trainings_patience_and_says_where_there_is_none():
    tasks = {"stay": "regression", "noise": {"kind": "regression", "schedule": "plateau"}}
    for patience, expected in ((6, {"noise": (1, 6)}), (None, {})):
        own = training_of_one(tasks, patience=patience).own
        own.end_epoch(0, {"noise": 1.0})
        own.end_epoch(1, {"noise": 2.0})
        assert own.since_best(1) == expected
    run = recipe(tasks, training={"epochs": 2, "batch_size": 25, "patience": None}).run(table())
    assert [note for note in run.record.notes if "plateau of task 'noise'" in note]


def test_a_patient_task_that_the_last_stage_drops_is_answered_by_it_with_a_note():
    tasks = {"stay": "regression", "noise": {"kind": "regression", "patience": 1}}
    training = {"epochs": 8, "batch_size": 25, "learning_rate": 0.05}
    run = recipe(tasks, schedule={"name": "auxiliary_then_drop", "main": ["stay"]}, training=training).run(table())
    said = [note for note in run.record.notes if "'noise' has a patience of its own, and the last stage" in note]
    assert len(said) == 1
    assert run.bundle.answers == {}
    swapped = recipe(tasks, schedule={"name": "auxiliary_then_drop", "main": ["noise"]}, training=training)
    assert not [note for note in swapped.run(table()).record.notes if "has a patience of its own" in note]


def many_patient(n_tasks=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(120, 3))
    made = pd.DataFrame(x, columns=["x0", "x1", "x2"])
    for i in range(n_tasks):
        made[f"y{i}"] = (x[:, i % 3] if i % 2 else 0.0) + rng.normal(size=120)
    tasks = {f"y{i}": {"kind": "regression", "patience": 2} for i in range(n_tasks)}
    training = {"epochs": 8, "batch_size": 25, "learning_rate": 0.03, "stop_rule": "task:y1", "patience": None}
    return recipe(tasks, training=training), made


def test_tasks_that_were_best_in_one_epoch_are_answered_by_one_network(tmp_path):
    asked, data = many_patient()
    run = asked.run(data, out=tmp_path / "run")
    stopped = run.history[-1].get("stopped", {})
    best = {}
    for task in run.record.tasks:
        losses = [line["validation"][task] for line in run.history]
        best[task] = int(np.argmin(losses[: stopped.get(task, len(losses))]))
    assert len(set(best.values())) > 1
    found = {task: positions[0] for task, positions in run.bundle.answers.items()}
    assert len(run.bundle.models) == 1 + len(set(found.values())) <= 1 + len(set(best.values()))
    assert {(best[a] == best[b], found[a] == found[b]) for a in found for b in found} <= {(True, True), (False, False)}
    prepared = prepare_recipe(asked, data)
    for task in prepared.tasks:
        held = prepared.validation["t"]
        model = run.bundle.models[found.get(task.name, 0)]
        losses = task.loss(
            model.outputs(held, [task.name])[task.name], held.targets[task.name], held.observed[task.name]
        )
        assert losses.mean().item() == pytest.approx(run.history[best[task.name]]["validation"][task.name], rel=1e-5)
    again = load(tmp_path / "run").predict(data)
    assert all(np.array_equal(again[name].values, run.predict(data)[name].values) for name in again)


def test_the_networks_of_best_epochs_outlive_an_interruption(tmp_path):
    class Stop(Silent):
        left = 20

        def step(self, losses, epoch):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)

    asked, data = many_patient()
    whole = asked.run(data)
    with pytest.raises(Interrupted):
        asked.run(data, out=tmp_path / "cut", progress=Stop())
    resumed = asked.run(data, out=tmp_path / "cut", resume=True)
    assert whole.bundle.answers == resumed.bundle.answers != {}
    for one, other in zip(whole.bundle.models, resumed.bundle.models, strict=True):
        for name, value in one.model.state_dict().items():
            assert torch.equal(other.model.state_dict()[name], value), name


def test_a_snapshot_is_shared_by_the_tasks_of_its_epoch():
    names = ["a", "b", "c"]
    spec = ModelSpec(prepare_recipe(recipe({"stay": {}}), table()).shapes, dict.fromkeys(names, 1), encoder="mlp")
    own = OwnWays({name: TaskControl(patience=9) for name in names}, build_model(spec), Settings(), 10)
    for epoch, losses in enumerate([(3, 3, 3), (2, 2, 4), (1, 3, 5)]):
        own.end_epoch(epoch, dict(zip(names, map(float, losses), strict=True)))
    assert own.best == {"a": 2, "b": 1, "c": 0}
    assert sorted(own.states) == [0, 1, 2]
    own.end_epoch(3, dict.fromkeys(names, 0.5))
    assert list(own.states) == [3]
