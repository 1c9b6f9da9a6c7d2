"""The choice counts groups where labels come in groups, averages arms that may be the best, and knows the constant."""

import numpy as np
import pytest
import torch

from polytask.records import StudyFold
from polytask.study.choice import _difference, choose, choose_all
from polytask.study.scores import CONSTANT, FoldScores
from polytask.study.store import KeptFold
from polytask.tasks import registry

A, B = ("a",), ("b",)


def fold(labels: np.ndarray, answers: dict[str, np.ndarray], groups: np.ndarray | None = None) -> FoldScores:
    """A fold whose test rows are its validation rows; answers are in standard units, as labels are."""
    task = registry.create("regression", name="y")
    task.fit(np.array([-1.0, 1.0]))
    truth = {"y": (torch.from_numpy(labels), torch.ones(len(labels), dtype=torch.bool))}
    kept = KeptFold(StudyFold(0, 0, 0, 2, len(labels), len(labels)), {"y": task}, dict.fromkeys(PARTS, truth))
    given = {arm: {part: {"y": torch.from_numpy(z)[:, None]} for part in PARTS} for arm, z in answers.items()}
    return FoldScores(kept, {}, given, {} if groups is None else {"y": groups})


PARTS = ("validation", "test")


def test_the_error_of_a_difference_is_that_of_a_mean_over_groups():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 60))
    mean, error = _difference(one, other, None)
    assert mean == pytest.approx((one - other).mean())
    assert error == pytest.approx((one - other).std(ddof=1) / np.sqrt(60))
    by_group = (one - other).reshape(6, 10).mean(1)
    assert _difference(one, other, np.repeat(np.arange(6), 10))[1] == pytest.approx(by_group.std(ddof=1) / np.sqrt(6))


def test_a_lead_that_two_of_four_groups_make_is_no_lead():
    groups = np.repeat(np.arange(4), 50)
    losses = {A: {"y": np.full(200, 1.0)}, B: {"y": np.repeat([0.5, 0.6, 1.1, 1.2], 50)}}
    errors = {A: {"y": 1.0}, B: {"y": 0.85}}
    assert choose(A, errors, losses) == {"y": B}, "two hundred rows are sure of it"
    assert choose(A, errors, losses, {"y": groups}) == {"y": A}, "four groups are not"


def test_the_constant_serves_a_task_of_which_nothing_was_learned():
    losses = {A: {"x": np.full(9, 0.5), "y": np.full(9, 1.1)}, CONSTANT: {"x": np.ones(9), "y": np.ones(9)}}
    assert choose(A, {A: {"x": 0.5, "y": 1.1}}, losses) == {"x": A, "y": CONSTANT}


def test_bad_luck_on_a_few_labels_does_not_make_a_constant():
    losses = {A: {"y": np.array([0.2, 2.2, 0.4, 0.3, 2.4])}, CONSTANT: {"y": np.ones(5)}}
    assert choose(A, {A: {"y": 1.1}}, losses) == {"y": A}


def test_a_lead_over_the_constant_must_be_clear_where_labels_come_in_groups():
    losses = {A: {"y": np.repeat([0.2, 0.4, 0.9, 1.5, 1.4], 40)}, CONSTANT: {"y": np.ones(200)}}
    assert choose(A, {A: {"y": 0.88}}, losses) == {"y": A}
    assert choose(A, {A: {"y": 0.88}}, losses, {"y": np.repeat(np.arange(5), 40)}) == {"y": CONSTANT}


def test_what_no_task_of_few_groups_can_prove_all_of_them_prove_together():
    groups = np.repeat(np.arange(4), 10)
    gains = {"x": [0.8, -0.05, 0.3, 0.1], "y": [0.1, 0.7, -0.02, 0.3], "z": [-0.1, 0.2, 0.7, 0.4]}
    losses = {A: {task: 1.0 - np.repeat(gain, 10) for task, gain in gains.items()}, CONSTANT: {}}
    losses[CONSTANT] = {task: np.ones(40) for task in gains}
    errors = {A: {task: float(loss.mean()) for task, loss in losses[A].items()}}
    assert choose(A, errors, losses, dict.fromkeys(gains, groups)) == dict.fromkeys(gains, A)
    for task in gains:
        of_one = {c: {task: by_task[task]} for c, by_task in losses.items()}
        assert choose(A, {A: {task: 0.7}}, of_one, {task: groups}) == {task: CONSTANT}, "alone it is luck of a group"


def test_groups_of_one_label_each_are_no_groups():
    rng = np.random.default_rng(3)
    labels = rng.normal(size=30)
    answers = {"a": labels + 0.95 * rng.normal(size=30)}
    plain = choose_all([fold(labels, answers)], ["a"], ["y"])
    alone = choose_all([fold(labels, answers, np.arange(30))], ["a"], ["y"])
    assert alone.final == plain.final
    assert alone.errors == plain.errors


def test_an_arm_that_does_not_serve_a_task_leaves_it_to_another():
    losses = {A: {"x": np.full(9, 0.5)}, B: {"x": np.full(9, 0.5), "y": np.full(9, 0.9)}}
    assert choose(A, {A: {"x": 0.5, "y": np.nan}, B: {"x": 0.5, "y": 0.9}}, losses) == {"x": A, "y": B}


def test_arms_that_may_be_the_best_answer_together_and_one_that_is_behind_does_not():
    rng = np.random.default_rng(1)
    labels = rng.normal(size=400)
    answers = {name: labels + size * rng.normal(size=400) for name, size in (("a", 0.5), ("b", 0.5), ("far", 1.0))}
    chosen = choose_all([fold(labels, answers)], list(answers), ["y"])
    assert chosen.final == {"y": ("a", "b")}
    assert chosen.errors["y"][0] == pytest.approx(0.125, rel=0.25), "errors that do not know each other halve"


def test_where_every_arm_is_worse_than_the_constant_that_is_chosen_and_tested():
    rng = np.random.default_rng(2)
    labels = rng.normal(size=200)
    chosen = choose_all([fold(labels, {"a": 2 * rng.normal(size=200)})], ["a"], ["y"])
    assert chosen.final == {"y": CONSTANT}
    assert chosen.errors["y"] == [pytest.approx(1.0)]


def test_a_task_that_one_arm_cannot_serve_takes_that_arm_from_no_other_task():
    rng = np.random.default_rng(1)
    labels = rng.normal(size=30)
    truth = {name: (torch.from_numpy(labels), torch.ones(30, dtype=torch.bool)) for name in ("y", "z", "text")}
    tasks = {name: registry.create("regression", name=name) for name in truth}
    for task in tasks.values():
        task.fit(np.array([-1.0, 1.0]))
    kept = KeptFold(StudyFold(0, 0, 0, 2, 30, 30), tasks, dict.fromkeys(PARTS, truth))
    noise = {"linear": 0.5, "joint": 0.6, "single": 0.6}

    def answer(arm):
        served = [name for name in truth if arm != "linear" or name != "text"]
        return {name: torch.from_numpy(labels + noise[arm] * rng.normal(size=30))[:, None] for name in served}

    given = {arm: dict.fromkeys(PARTS, answer(arm)) for arm in noise}
    chosen = choose_all([FoldScores(kept, {}, given)], list(noise), list(truth))
    assert "linear" in chosen.final["y"], (
        "too few rows for a clear lead, and enough to be among those that may be the best"
    )
    assert "linear" in chosen.final["z"]
    assert "linear" not in chosen.final["text"]
    without = choose_all([FoldScores(kept, {}, given)], list(noise), ["y", "z"])
    assert without.final == {task: chosen.final[task] for task in ("y", "z")}, "as if the task were not there"


def test_a_task_without_validation_labels_is_answered_by_an_arm_that_serves_it():
    rng = np.random.default_rng(2)
    labels, everywhere, nowhere = (
        rng.normal(size=30),
        torch.ones(30, dtype=torch.bool),
        torch.zeros(30, dtype=torch.bool),
    )
    tasks = {name: registry.create("regression", name=name) for name in ("y", "text")}
    for task in tasks.values():
        task.fit(np.array([-1.0, 1.0]))
    seen = {"y": (torch.from_numpy(labels), everywhere), "text": (torch.from_numpy(labels), nowhere)}
    kept = KeptFold(StudyFold(0, 0, 0, 2, 30, 30), tasks, dict.fromkeys(PARTS, seen))
    answer = torch.from_numpy(labels)[:, None]
    given = {
        "linear": {part: {"y": answer + 0.01} for part in PARTS},
        "joint": {part: {"y": answer + 0.9, "text": answer} for part in PARTS},
    }
    chosen = choose_all([FoldScores(kept, {}, given)], ["linear", "joint"], ["y", "text"])
    assert chosen.final == {"y": ("linear",), "text": ("joint",)}
