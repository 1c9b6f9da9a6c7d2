"""Every registered schedule and remedy keeps its contract."""

import pytest

from polytask.testing import check_remedy, check_schedule
from polytask.training.remedies import registry as remedies
from polytask.training.remedy import Remedy
from polytask.training.schedule import Schedule, Stage, StageResult
from polytask.training.schedules import registry as schedules

REQUIRED = {"pretrain_then_finetune": {"pretrain": ["a"]}, "auxiliary_then_drop": {"main": ["b"]}}
MORE = [
    ("sequential", {"order": ["c", "a"], "decay": 0.5}),
    ("pretrain_then_finetune", {"pretrain": ["a", "b"], "how": "gradual"}),
    ("pretrain_then_finetune", {"pretrain": ["b"], "how": "probe_then_full"}),
    ("curriculum", {"order": "hard_first", "keeps": False}),
    ("curriculum", {"order": "progress"}),
    ("curriculum", {"order": ["b", "c", "a"]}),
    ("curriculum", {"order": ["b", "c", "a"], "epochs": [1, 1, 1]}),
    ("curriculum", {"epochs": [1, 1, 1], "keeps": False}),
]
SHARING = {"adapters": {"name": "residual_adapters", "bottleneck": 4}}


@pytest.mark.parametrize(("name", "options"), [*((n, REQUIRED.get(n, {})) for n in schedules.names()), *MORE])
def test_schedule(name, options):
    check_schedule(lambda: schedules.create(name, **options))


@pytest.mark.parametrize(("name", "options"), [*((n, REQUIRED.get(n, {})) for n in schedules.names()), *MORE])
def test_a_task_that_no_stage_trains_is_known_beforehand(name, options):
    schedule, tasks, done = schedules.create(name, **options), ("a", "b", "c"), []
    while (stage := schedule.next_stage(tasks, 10, 2, done)) is not None:
        done.append(StageResult(stage, losses=dict.fromkeys(tasks, 0.5), epochs=1))
    trained = {task for result in done for task in result.stage.tasks}
    assert set(schedule.never_trains(tasks)) == set(tasks) - trained


@pytest.mark.parametrize("name", remedies.names())
def test_remedy(name):
    check_remedy(lambda **options: remedies.create(name, **options), SHARING.get(name, "hard"))


class Endless(Schedule):
    def next_stage(self, tasks, epochs, n_layers, done):
        return Stage(str(len(done)), tuple(tasks))


class Forgetful(Schedule):
    def __init__(self):
        self.left = 2

    def next_stage(self, tasks, epochs, n_layers, done):
        self.left -= 1
        return Stage(str(self.left), tuple(tasks)) if self.left >= 0 else None


class Nothing(Remedy):
    pass


@pytest.mark.parametrize(("broken", "words"), [(Endless, "no end"), (Forgetful, "keep no state")])
def test_a_broken_schedule_is_found(broken, words):
    with pytest.raises(AssertionError, match=words):
        check_schedule(broken)


def test_a_remedy_that_does_nothing_is_found():
    with pytest.raises(AssertionError, match="the first task ends"):
        check_remedy(Nothing)


def test_an_order_that_is_a_way_and_no_task_leaves_no_task_out():
    class Drawn(Schedule):
        order = "random"

        def next_stage(self, tasks, epochs, n_layers, done):
            return Stage("all", tuple(tasks)) if not done else None

    assert Drawn().never_trains(("a", "b")) == ()
    assert Drawn().never_trains(("random", "b")) == ("b",)
