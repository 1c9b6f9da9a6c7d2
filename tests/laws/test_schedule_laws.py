"""Laws of schedules in whole runs: one stage is plain training, given timing is kept, constraints hold in their stages."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe
from polytask.errors import RecipeError
from polytask.training.schedule import StageResult
from polytask.training.schedules import registry

ONE_STAGE = [
    ("joint", {}),
    ("sequential", {}),
    ("sequential", {"decay": 0.5, "rate": 0.1}),
    ("alternating", {"rounds": 1}),
    ("curriculum", {"order": ["price"]}),
    ("curriculum", {"order": ["price"], "epochs": [4]}),
    ("curriculum", {"order": "progress", "turns": 1}),
]
"""For one task; the factors of ``sequential`` are those of later stages."""

NEVER_ONE = {"pretrain_then_finetune": {"pretrain": ["a"]}, "auxiliary_then_drop": {"main": ["b"]}}


def table(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    price = x @ [1.0, -1.0, 0.5] + 0.3 * rng.normal(size=n)
    price[rng.random(n) < 0.3] = np.nan
    ill = np.where(x[:, 0] + 0.3 * rng.normal(size=n) > 0, "yes", "no")
    return pd.DataFrame(
        {"a": x[:, 0], "b": x[:, 1], "c": np.where(x[:, 2] > 0, "high", "low"), "price": price, "ill": ill}
    )


def run(tasks, schedule=None, epochs: int = 4, **changes):
    drop = [name for name in ("price", "ill") if name not in tasks]
    options = {
        "tasks": tasks,
        "data": {"data": {"drop": drop}},
        "encoder": {"name": "tabular", "width": 8, "dropout": 0.3},
        "training": {"epochs": epochs, "batch_size": 16, "learning_rate": 0.01, "patience": None},
        "seed": 3,
        **({} if schedule is None else {"schedule": schedule}),
    }
    return Recipe(**{**options, **changes}).run(table())


def test_every_schedule_is_in_one_of_the_two_laws():
    assert {name for name, _ in ONE_STAGE} | set(NEVER_ONE) == set(registry.names())


@pytest.fixture(scope="module")
def plain():
    return run({"price": "regression"})


@pytest.mark.parametrize(("name", "options"), ONE_STAGE)
def test_a_schedule_of_one_stage_is_plain_training_bit_for_bit(name, options, plain):
    made = run({"price": "regression"}, {"name": name, **options})
    for key, value in plain.bundle.models[0].model.state_dict().items():
        assert torch.equal(value, made.bundle.models[0].model.state_dict()[key]), key
    clocks = ("seconds", "stage")
    lines = [[{k: v for k, v in line.items() if k not in clocks} for line in r.history] for r in (plain, made)]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 4
    assert plain.record.tasks == made.record.tasks
    assert plain.record.best_epoch == made.record.best_epoch


@pytest.mark.parametrize("name", NEVER_ONE)
def test_the_others_never_have_one_stage(name):
    schedule = registry.create(name, **NEVER_ONE[name])
    first = schedule.next_stage(["a", "b"], 4, 2, [])
    assert schedule.next_stage(["a", "b"], 4, 2, [StageResult(first, {"a": 0.5, "b": 0.5})]) is not None


@pytest.mark.parametrize(
    ("order", "expected"),
    [(["ill", "price"], [("ill", 1), ("with price", 3)]), ("hard_first", [("probe", 1), None, None])],
)
def test_given_timing_is_what_is_trained(order, expected):
    made = run(["price", "ill"], {"name": "curriculum", "order": order, "epochs": [1, 3]}, epochs=5)
    stages = [(stage.name, stage.epochs) for stage in made.record.sequence.stages]
    assert len(stages) == len(expected)
    assert all(wanted in (None, stage) for stage, wanted in zip(stages, expected, strict=True))
    assert [epochs for _, epochs in stages[-2:]] == [1, 3]
    counted = [sum(line["stage"] == name for line in made.history) for name, _ in stages]
    assert counted == [epochs for _, epochs in stages]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": [1]}, "needs 2 numbers of epochs, got .1."),
        ({"order": ["price"], "epochs": [1, 2]}, "needs 1 numbers of epochs"),
        ({"epochs": [1, 9]}, "from 1 to the 4 of training.epochs"),
        ({"epochs": [0, 1]}, "from 1 to the 4 of training.epochs"),
        ({"epochs": [1, 1.5]}, r"epochs of schedule .* takes a list of whole numbers; got \[1, 1\.5\]"),
        ({"order": "progress", "epochs": [1, 1]}, "take `epochs` out"),
    ],
)
def test_timing_that_cannot_be_is_said_before_anything_is_trained(options, words):
    with pytest.raises(RecipeError, match=words):
        registry.create("curriculum", **options).next_stage(["price", "ill"], 4, 2, [])


def test_constraints_are_kept_in_the_stages_that_train_their_task_and_judged_in_the_end():
    schedule = {"name": "sequential", "order": ["price", "ill"]}
    bounds = [{"task": "price", "metric": "loss", "at_most": 0.4}, {"task": "ill", "metric": "loss", "at_most": 0.2}]
    made = run(["price", "ill"], schedule, epochs=12, constraints=bounds)
    by_stage = {stage: [x for x in made.history if x["stage"] == stage] for stage in ("price", "ill")}
    names = list(made.record.constraints)
    assert [made.record.constraints[name].task for name in names] == ["price", "ill"]
    for stage, name in zip(("price", "ill"), names, strict=True):
        assert all(list(line["constraints"]) == [name] for line in by_stage[stage])
        # Each begins broken, with a multiplier of its own that pushes back.
        assert by_stage[stage][0]["is_feasible"] is False
        assert max(line["constraints"][name]["multiplier"] for line in by_stage[stage]) > 0.0
    # The multiplier that is told is the kept epoch's, and the last stage has none for a task that it does not train.
    assert made.record.constraints[names[0]].multiplier is None
    assert made.record.constraints[names[1]].multiplier is not None
    assert any("does not train 'price'" in note and names[0] in note for note in made.record.notes)
    assert not any("does not train 'ill'" in note for note in made.record.notes)
    # Both are judged on the network in the end: the first may have been forgotten since its own stage.
    stage_end = by_stage["price"][made.record.sequence.stages[0].best_epoch]["constraints"][names[0]]
    assert made.record.constraints[names[0]].value != stage_end["value"]
    last = by_stage["ill"][made.record.sequence.stages[1].best_epoch]["constraints"][names[1]]
    assert math.isclose(made.record.constraints[names[1]].value, last["value"], rel_tol=1e-5)
