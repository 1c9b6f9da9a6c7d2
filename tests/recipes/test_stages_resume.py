"""A run in stages that was interrupted in one of them and went on equals the one that was not, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_resume import assert_equal_runs, interrupted_and_resumed, table

from polytask import Recipe
from polytask.training.remedies import registry as remedies
from polytask.training.schedules import registry as schedules

REQUIRED = {
    "pretrain_then_finetune": {"pretrain": ["price"]},
    "auxiliary_then_drop": {"main": ["ill"]},
    "alternating": {"rounds": 2},
    "curriculum": {"order": "progress"},
}
NEEDS_ADAPTERS = {"adapters"}


class Killed(Exception):
    """As when the process is killed: nothing is written any more."""


class DieAfter:
    """Ends a training without a word after some steps."""

    def __init__(self, steps: int):
        self.left = steps

    def start(self, title, n_steps, done): ...

    def stop(self, message): ...

    def step(self, losses, epoch):
        self.left -= 1
        if self.left == 0:
            raise Killed


def recipe(schedule, **changes) -> Recipe:
    settings = {
        "tasks": {"price": "regression", "ill": "binary", "size": "regression"},
        "encoder": {"name": "tabular", "width": 8, "dropout": 0.3},
        "training": {"epochs": 2, "batch_size": 16, "checkpoint_seconds": 0.0},
        "schedule": schedule,
        "seed": 3,
    }
    return Recipe(**{**settings, **changes})


def with_remedy(name: str) -> Recipe:
    changes = {"sharing": {"name": "residual_adapters", "bottleneck": 2}} if name in NEEDS_ADAPTERS else {}
    return recipe({"name": "sequential", "remedies": [name]}, **changes)


def killed_and_resumed(asked: Recipe, data, folder: Path, steps: int):
    with pytest.raises(Killed):
        asked.run(data, out=folder, progress=DieAfter(steps))
    return asked.run(data, out=folder, resume=True)


def check(asked: Recipe, folder: Path) -> None:
    data = table(90)
    whole = asked.run(data, out=folder / "whole")
    names = [line.get("stage") for line in whole.history]
    n_first = max(line["step"] for line in whole.history if line.get("stage") == names[0])
    others = len(set(names)) > 1
    middle = n_first + 2 if others else n_first - 3
    assert_equal_runs(whole, interrupted_and_resumed(asked, data, folder / "cut", [middle, 1]))
    assert_equal_runs(whole, killed_and_resumed(asked, data, folder / "killed", middle))
    if others:
        assert_equal_runs(whole, killed_and_resumed(asked, data, folder / "between", n_first + 1))


@pytest.mark.parametrize("name", schedules.names())
def test_every_schedule_goes_on(name, tmp_path):
    check(recipe({"name": name, **REQUIRED.get(name, {})}), tmp_path)


@pytest.mark.parametrize("name", remedies.names())
def test_every_remedy_goes_on(name, tmp_path):
    check(with_remedy(name), tmp_path)


def test_stages_of_several_sources_go_on_with_every_remedy_at_once(tmp_path):
    first, second = table(90, 0), table(50, 1).rename(columns={"a": "other"})
    data = {"first": first.drop(columns=["ill", "size"]), "second": second.drop(columns=["price"])}
    names = [name for name in remedies.names() if name not in NEEDS_ADAPTERS]
    asked = recipe({"name": "sequential", "remedies": names}, balancer="pcgrad")
    whole = asked.run(data)
    assert_equal_runs(whole, interrupted_and_resumed(asked, data, tmp_path / "cut", [9, 4]))
