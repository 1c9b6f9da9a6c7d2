"""Every registered arm on the same data; no wiring per arm."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from study_data import TASKS, mixed_table

from polytask.bundle import Bundle, load
from polytask.data import composed_scenes
from polytask.errors import RecipeError, UnknownNameError
from polytask.recipe import Recipe
from polytask.study.arm import PLAIN, outputs_of
from polytask.study.arms import registry
from polytask.study.folds import Protocol, make_fold, whole_fold
from polytask.study.naming import make_arm
from polytask.study.store import Store, keep_fold
from polytask.study.terms import Terms
from polytask.study.trials import train_trials
from polytask.training.data_sets import ArrayData
from polytask.training.opening import make_tasks, open_data
from polytask.training.planning import plan_of

NAMES = [*registry.names(), "joint:mmoe", "joint:hard@0.5+pcgrad", "joint_linear:l21"]


@pytest.fixture(autouse=True, scope="module")
def few_trees():
    from polytask.study.arms import chosen_ratio, forest, joint_forest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chosen_ratio, "_FOLDS", 2)
        patch.setattr(chosen_ratio, "_RATIOS", (0.0, 1.0))
        for module in (forest, joint_forest):
            patch.setattr(module, "TREES", 15)
            patch.setattr(module, "_GRID", {**module._GRID, "leaves": (1, 5), "features": (1.0,)})
        yield


def folds_of(frame: pd.DataFrame, tasks=TASKS, folds: int = 3):
    recipe = Recipe(
        tasks=tasks,
        encoder={"name": "tabular"},
        training={"epochs": 2, "batch_size": 64},
    )
    data = open_data(recipe, {"data": frame})
    made, _ = make_tasks(recipe, data)

    def planner(prepared):
        return plan_of(recipe, prepared)

    splits = Protocol(folds=folds).splits(data[0], made)
    found = [make_fold(data[0], made, planner, s[:2], 0, s[2]) for s in splits]
    for fold in found:
        fold.data.terms = Terms(trials=2)
    return data[0], made, planner, found


@pytest.fixture(scope="module")
def mixed():
    return folds_of(mixed_table())


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_answers_the_rows_it_is_asked_and_goes_into_a_bundle(name, mixed, tmp_path):
    data, tasks, planner, folds = mixed
    arm, tested = make_arm(name), folds[0]
    if reason := arm.why_not(tested.data):
        assert name == "pooled", reason
        data, tasks, planner, folds = folds_of(mixed_table(), ["price", "size"])
        tested = folds[0]
        assert not arm.why_not(tested.data)
    fitted = arm.fit(tested.data)
    test = outputs_of(fitted.models, tested.parts["test"])
    assert test, "an arm must serve a task"
    by_name = {task.name: task for task in tested.data.tasks}
    for task, out in test.items():
        assert out.shape == (tested.record.n_test, by_name[task].n_outputs)
        assert out.isfinite().all()
    choosing = outputs_of(fitted.choosing or fitted.models, tested.parts["validation"])
    assert set(choosing) == set(test)
    assert all(np.isfinite(value) for key, value in fitted.settled.items() if key != "configuration")
    assert fitted.n_parameters > 0
    # All rows, nothing to validate by, as the folds settled.
    whole = whole_fold(data, tasks, planner, 0)
    last = arm.fit(whole, fitted.settled)
    transforms = dict(whole.prepared.transforms)
    transforms |= {f"{source} ({PLAIN})": t for source, t in whole.plain_transforms.items()}
    served = [task for task in whole.tasks if any(task.name in model.tasks for model in last.models)]
    bundle = Bundle(served, last.models, transforms)
    before = bundle.predict(data.table)
    bundle.save(tmp_path / "bundle")
    after = load(tmp_path / "bundle").predict(data.table)
    for task, answer in before.items():
        assert (answer.values == after[task].values).all()
        if answer.probabilities is not None:
            np.testing.assert_array_equal(answer.probabilities, after[task].probabilities)


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_sees_no_test_row(name, mixed):
    _, _, _, folds = mixed
    arm, tested = make_arm(name), folds[1]
    assert tested.data.prepared.test == {}
    if arm.why_not(tested.data):
        return
    n_seen = {len(s) for p in tested.data.plain.values() for s in p.values()}
    assert n_seen == {tested.record.n_train, tested.record.n_validation}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_trial(name, mixed):
    _, _, _, folds = mixed
    kept = keep_fold(Store(None), folds[2])
    first, second = (train_trials([(make_arm(name), kept, folds[2])])[0][0] for _ in range(2))
    assert first.metrics == second.metrics
    assert first.validation == second.validation
    assert first.curves == second.curves


@pytest.mark.parametrize("name", NAMES)
def test_one_task_and_an_absent_task(name):
    frame = mixed_table(90)[["a", "b", "c", "d", "town", "price", "ill"]]
    # One row only is ill: where it is tested, there is one class left to learn from.
    frame["ill"] = "no"
    frame.loc[0, "ill"] = "yes"
    frame.loc[20:, "ill"] = None
    _, _, _, folds = folds_of(frame, {"price": {}, "ill": {}})
    assert any("ill" in tested.record.absent for tested in folds)
    tested = next(tested for tested in folds if "ill" in tested.record.absent)
    assert [task.name for task in tested.data.tasks] == ["price"]
    ((trial, _),) = train_trials([(make_arm(name), keep_fold(Store(None), tested), tested)])
    if make_arm(name).is_per_task:
        assert trial.why_not == ""
        assert set(trial.metrics) == {"price"}
    else:
        assert re.search("one task only|two tasks|two numeric tasks|three tasks", trial.why_not), trial.why_not
        assert trial.metrics == {}


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("joint:mmoe", "forest", "searched", "chosen_ratio")])
def test_a_hundred_tasks(name):
    rng = np.random.default_rng(0)
    inputs = pd.DataFrame(rng.normal(size=(80, 3)), columns=["a", "b", "c"])
    labels = (
        inputs[["a"]].to_numpy() * np.arange(100) / 100 + inputs[["b"]].to_numpy() + 0.1 * rng.normal(size=(80, 100))
    )
    labels[rng.random((80, 100)) < 0.1] = np.nan
    frame = pd.concat([inputs, pd.DataFrame(labels, columns=[f"y{t}" for t in range(100)])], axis=1)
    names = [f"y{t}" for t in range(100)] if not make_arm(name).is_per_task else [f"y{t}" for t in range(10)]
    if name == "chains":
        names = names[:10]
    frame = frame[["a", "b", "c", *names]]
    _, _, _, folds = folds_of(frame, names, folds=2)
    arm = make_arm(name)
    if arm.why_not(folds[0].data):
        return
    found = outputs_of(arm.fit(folds[0].data).models, folds[0].parts["test"])
    assert len(found) == len(names)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        *(
            (name, RecipeError, f"{name!r} is no arm's name. Write")
            for name in ("", "joint:", "joint mmoe", "joint:hard@x")
        ),
        ("joint@1.2.3", RecipeError, "ratio after @ must be a number, got '1.2.3'"),
        ("nothing", UnknownNameError, "No arm named 'nothing'"),
        ("boosting:big", RecipeError, "'boosting' has no kind"),
    ],
)
def test_names_that_are_no_arms(name, error, says):
    with pytest.raises(error, match=says):
        make_arm(name)


@pytest.mark.parametrize("tasks", [["ill", "sick"], ["ward", "room"], {"visits": "count", "calls": "count"}])
def test_pooled_classes_and_counts_are_the_users(tasks):
    frame = mixed_table(120)
    frame["sick"], frame["room"], frame["calls"] = frame["ill"][::-1].to_numpy(), frame["ward"], frame["visits"]
    frame = frame[["a", "b", "c", *tasks]]
    _, _, _, folds = folds_of(frame, tasks)
    arm = make_arm("pooled")
    assert not arm.why_not(folds[0].data)
    found = outputs_of(arm.fit(folds[0].data).models, folds[0].parts["test"])
    one, other = (task.decode(found[task.name]) for task in folds[0].data.tasks)
    assert len(set(map(str, one.values)) & set(map(str, other.values)))
    if one.probabilities is not None:
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_a_multiclass_arm_keeps_a_class_that_is_missing_on_a_fold(mixed):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"])
    frame["k"] = np.where(frame["a"] > 0, "p", "q")
    frame.loc[0, "k"] = "rare"
    _, _, _, folds = folds_of(frame, {"k": {"kind": "multiclass", "classes": ["p", "q", "rare"]}})
    lacking = [f for f in folds if not (f.data.prepared.train["data"].targets["k"] == 2).any()]
    assert lacking
    for name in ("boosting", "forest", "linear"):
        out = outputs_of(make_arm(name).fit(lacking[0].data).models, lacking[0].parts["test"])["k"]
        assert out.shape[1] == 3
        assert torch.softmax(out, -1)[:, 2].max() < 0.2


@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_counts_are_learned_from_pixels_that_nobody_scaled(kind):
    scenes = composed_scenes(200, 28, most=2)
    counts = scenes.counts.sum(1)
    data = ArrayData("scenes", scenes.images.astype(kind), {"n": counts})
    recipe = Recipe(tasks={"n": {"kind": "count"}}, encoder={"name": "cnn", "channels": [2], "width": 4})
    tasks, _ = make_tasks(recipe, [data])
    split = Protocol(folds=2).splits(data, tasks)[0]
    fold = make_fold(data, tasks, lambda prepared: plan_of(recipe, prepared), split[:2], 0, split[2])
    found = outputs_of(make_arm("linear").fit(fold.data).models, fold.parts["test"])["n"]  # a warning is an error
    told = np.corrcoef(found[:, 0].numpy(), counts[split[2].test])[0, 1]
    assert told > 0.3
