"""Searches inside a fold: what they see, what they try, that they go on where they were."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from polytask.errors import MissingExtraError, NonFiniteError, RecipeError, UnknownNameError
from polytask.models.sharing import registry as sharings
from polytask.ranges import Range
from polytask.records import StudyRecord
from polytask.report import write_page
from polytask.study import Protocol, Study
from polytask.study import search as search_module
from polytask.study.arm import why_not_learn
from polytask.study.bench import Bench, Material, Place
from polytask.study.budget import Budget
from polytask.study.final import settle
from polytask.study.inner import inner_errors, inner_folds
from polytask.study.naming import make_arm
from polytask.study.space import Space, plan_with, ranges_of, searched_names
from polytask.study.store import Trial
from polytask.study.terms import Terms

pytest.importorskip("optuna")
QUICK = {
    "training": {"epochs": 2, "batch_size": 64},
    "encoder": {"name": "tabular", "width": 8, "n_blocks": 1, "embedding_width": 2},
}


def table(n: int = 120, n_tasks: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    frame["who"] = np.arange(n) // 4
    for task in range(n_tasks):
        frame[f"y{task}"] = (frame["a"] + task * frame["b"] + 0.3 * rng.normal(size=n)).where(rng.random(n) > 0.2)
    return frame


def fold_of(data, n_tasks=2, terms=None, **protocol):
    hidden = {} if "group" in protocol or isinstance(data, dict) else {"drop": ["who"]}
    study = Study(data, [f"y{t}" for t in range(n_tasks)], protocol=Protocol(folds=3, **protocol), **hidden, **QUICK)
    question = study._open()
    material = Material(question.data, question.tasks, study.recipe, study.protocol, terms or Terms())
    place = Place(*study.protocol.splits(question.data, question.tasks)[0])
    return Bench(material).fold(place)[0].data, place


def test_what_is_tried_is_declared_by_the_methods():
    assert {"hard", "mmoe"} <= set(searched_names(sharings))
    assert ranges_of(sharings, "hard") == {"ratio": Range(0.0, 1.0)}
    assert list(ranges_of(sharings, "ple")) == ["ratio"], "not declared, so its ratio only"
    assert ranges_of(sharings, "residual_adapters") == {}


def test_inner_rows_are_training_rows_of_the_fold_and_groups_stay_together():
    frame = table()
    fold, place = fold_of(frame, group="who")
    train = fold.prepared.train[fold.source]
    rows = {tuple(row.tolist()): i for i, row in zip(place.split.train, train.inputs["numeric"], strict=True)}
    who = frame["who"].to_numpy()
    tested: list[int] = []
    for inner in inner_folds(fold, 3):
        parts = [
            {rows[tuple(r.tolist())] for r in part[fold.source].inputs["numeric"]}
            for part in (inner.prepared.train, inner.prepared.validation)
        ]
        assert not parts[0] & parts[1]
        assert parts[0] | parts[1] == set(place.split.train), "no validation or test row of the fold"
        assert not {who[i] for i in parts[0]} & {who[i] for i in parts[1]}
        assert inner.prepared.test == {}
        tested += parts[1]
    assert sorted(tested) == sorted(place.split.train)
    single = inner_folds(fold)[0]
    assert len(single.prepared.validation[fold.source]) == pytest.approx(len(train) / 4, abs=8)


def test_several_sources_are_divided_together_and_samplers_are_tried():
    frame = table(160)
    sources = {"left": frame[["a", "b", "who", "y0"]][:100], "right": frame[["a", "c", "who", "y1"]][60:]}
    fold, place = fold_of(sources, terms=Terms(4), group="who")
    assert why_not_learn(make_arm("searched"), fold) == ""
    (inner,) = inner_folds(fold)
    who = np.concatenate([frame["who"][:100], frame["who"][60:]])
    n = 0
    sides: list[set[int]] = [set(), set()]
    for side, part in zip(sides, (inner.prepared.train, inner.prepared.validation), strict=True):
        assert set(part) == {"left", "right"}
        for name, is_own in (("left", place.split.train < 100), ("right", place.split.train >= 100)):
            rows = fold.prepared.train[name].inputs["numeric"]
            row_of = {tuple(r.tolist()): i for r, i in zip(rows, place.split.train[is_own], strict=True)}
            side |= {int(who[row_of[tuple(r.tolist())]]) for r in part[name].inputs["numeric"]}
            n += len(part[name])
    assert n == len(place.split.train)
    assert not sides[0] & sides[1], "a group is on one side in all sources"
    space = Space(fold, ["mmoe"], ["fixed"])
    assert space.samplers == ["proportional", "temperature", "uniform"]
    assert space.start()["sampler"] == "proportional"
    assert space.describe()["sampler"]["temperature"] == {"temperature": "1 to 10"}
    assert plan_with(fold.plan, space.choose(Fixed())).sampler == "uniform"
    together = replace(fold.plan, settings=replace(fold.plan.settings, together=True))
    assert Space(replace(fold, plan=together), [], []).samplers == []
    found = make_arm("searched").fit(fold)
    assert {len(trial["errors"]) for trial in found.search["trials"]} == {2}
    assert {trial["configuration"]["sampler"]["name"] for trial in found.search["trials"]} > {"proportional"}
    assert sum(found.search["rows"]) == n
    assert [sorted(model.tasks) for model in found.models] == [["y0", "y1"]]


class Fixed:
    """A chooser that takes the largest of everything, and notes the names."""

    def __init__(self):
        self.names = []

    def suggest_float(self, name, low, high, *, log=False):
        self.names.append(name)
        return high

    suggest_int = suggest_float

    def suggest_categorical(self, name, choices):
        self.names.append(name)
        return choices[-1]


def test_a_point_of_the_space_is_a_plan():
    fold, _ = fold_of(table())
    space = Space(fold, ["mmoe", "esmm"], ["fixed"])
    assert space.sharing == ["hard", "mmoe"]
    assert "esmm" in space.left_out
    chooser = Fixed()
    point = space.choose(chooser)
    assert point["sharing"] == {"name": "mmoe", "n_experts": 8}
    assert point["balancer"] == {"name": "fixed", "weights": {"y0": 1.0, "y1": 1.0}}, "scaled to a mean of 1"
    plan = plan_with(fold.plan, point)
    assert (plan.sharing, plan.sharing_options) == ("mmoe", {"n_experts": 8})
    assert plan.settings.batch_size == 128
    assert plan.settings.learning_rate == pytest.approx(5 * fold.plan.settings.learning_rate)
    assert set(space.start()) >= {"sharing", "balancer", "learning_rate x"}
    many, _ = fold_of(table(200, 20), 20)
    large = Space(many, ["mmoe", "cross_stitch"], ["fixed", "pcgrad"])
    assert large.sharing == ["hard", "mmoe"]
    assert large.left_out["cross_stitch"] == "it has a trunk for each of 20 tasks"
    assert large.balancers == ["equal", "fixed"]
    assert "20 tasks" in large.left_out["pcgrad"]
    large.choose(chooser := Fixed())
    assert "fixed.weights power" in chooser.names


def test_a_search_that_was_killed_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    trials = 6
    whole, _ = fold_of(table(), terms=Terms(trials, folder=tmp_path / "whole"))
    expected = make_arm("searched").fit(whole)
    broken, _ = fold_of(table(), terms=Terms(trials, folder=tmp_path / "broken"))
    real, calls = search_module.fit, []

    def dying(*args, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(search_module, "fit", dying)
    with pytest.raises(KeyboardInterrupt):
        make_arm("searched").fit(broken)
    journal = tmp_path / "broken" / "searched" / "0-0.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "half of a li')
    (journal.parent / "0-0.journal.lock").symlink_to(journal)
    calls.clear()
    monkeypatch.setattr(search_module, "fit", lambda *a, **o: (calls.append(1), real(*a, **o))[1])
    got = make_arm("searched").fit(broken)
    assert got.earlier > 0
    assert expected.earlier == 0, "seconds of trials that were there already are those of another process"
    assert len(calls) == trials - 3, "three trials were done and are not done again"
    plain = [{k: v for k, v in f.search.items() if k != "seconds_of_winner"} for f in (got, expected)]
    assert plain[0] == plain[1]
    assert got.settled == expected.settled
    for a, b in zip(got.models[0].model.parameters(), expected.models[0].model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_point_where_a_search_begins_is_tried_once_though_it_was_killed_before_it(tmp_path):
    def dying(text):
        raise KeyboardInterrupt

    whole, _ = fold_of(table(), terms=Terms(2))
    kept = replace(whole, terms=replace(whole.terms, folder=tmp_path))
    with pytest.raises(KeyboardInterrupt):
        make_arm("tuned_weights").fit(replace(kept, terms=replace(kept.terms, tell=dying)))
    ours, theirs = (make_arm("tuned_weights").fit(fold).search["trials"] for fold in (kept, whole))
    assert ours == theirs
    assert ours[0]["configuration"] != ours[1]["configuration"]


def test_what_was_found_is_used_where_nothing_is_searched(monkeypatch):
    fold, _ = fold_of(table(), terms=Terms(2))
    first = make_arm("tuned_weights").fit(fold)
    assert first.search["best"]["configuration"]["balancer"]["name"] == "fixed"
    assert first.search["start"] is not None
    monkeypatch.setattr(search_module, "_Search", None)
    given = replace(fold, terms=replace(fold.terms, given={"tuned_weights": first.settled}))
    later = make_arm("tuned_weights").fit(given)
    assert later.settled == first.settled
    assert later.search == {}
    worse = {**first.settled, "score": first.settled["score"] + 1, "epochs": 99}
    assert settle([Trial("a", settled=worse), Trial("a", settled=dict(first.settled))]) == first.settled


def test_an_objective_for_each_task_gives_a_front():
    fold, _ = fold_of(table(), terms=Terms(5, objective="tasks"))
    found = make_arm("tuned_weights").fit(fold).search
    table_ = np.array([list(trial["errors"].values()) for trial in found["trials"]])
    for row, trial in zip(table_, found["trials"], strict=True):
        behind = any((other <= row).all() and (other < row).any() for other in table_)
        assert trial["is_on_front"] is not behind
    assert found["pruned"] == 0


def test_a_study_searches_in_each_fold_or_for_want_of_time_in_the_first(monkeypatch):
    frame = table().drop(columns="who")
    options = {"arms": ["joint", "single"], "protocol": Protocol(folds=3), "search": {"trials": 2}, **QUICK}
    record = Study(frame, ["y0", "y1"], **options).run()
    assert list(record.arms) == ["joint", "single", "searched", "tuned_weights"]
    for arm in ("searched", "tuned_weights"):
        found = record.search[arm]
        assert [f["done"] for f in found["folds"]] == [2, 2, 2]
        assert "inside each fold" in found["where"]
        assert len(found["trials"]) == 2 - found["folds"][0]["pruned"]
    monkeypatch.setattr(Budget, "has_room", lambda self, cost: False)
    monkeypatch.setattr(Budget, "first_only", lambda self, arm, cost, later: not self.costs.update({arm: later}))
    monkeypatch.setattr(Budget, "repeats", lambda self, spent: 1)
    record = Study(frame, ["y0", "y1"], budget="1h", **options).run()
    found = record.search["searched"]
    assert len(found["folds"]) == 1
    assert "first fold" in found["where"]
    assert len(record.arms["searched"].errors["y0"]) == 3


def test_the_ratio_is_cross_validated_on_training_rows_and_shown(tmp_path, monkeypatch):
    frame = table().drop(columns="who")
    options = {"arms": ["joint", "chosen_ratio"], "protocol": Protocol(folds=2), "search": {"trials": 3}, **QUICK}
    record = Study(frame, ["y0", "y1"], **options).run()
    curves = record.sharing_curves["chosen_ratio"]
    assert len(curves) == 2
    for curve in curves:
        assert curve["ratio"] == sorted(set(curve["ratio"]))
        assert len(curve["ratio"]) >= 2, "an encoder of several stages can be split at several places"
        assert curve["mean"][curve["ratio"].index(curve["chosen"])] == min(curve["mean"])
        assert all(value >= 0 for value in curve["spread"])
    read = StudyRecord.from_json(json.loads(json.dumps(record.to_json())))
    text = write_page(read, tmp_path / "page.html", charts=True).read_text(encoding="utf-8")
    assert "Trade-offs between tasks: tuned_weights" in text
    assert "How much to share: chosen_ratio" in text
    assert "Searched anew inside each fold" in text
    with pytest.raises(RecipeError, match="no ratio"):
        make_arm("chosen_ratio:residual_adapters")


def test_what_a_recipe_says_of_its_own_methods_stays_in_every_trial():
    fold, _ = fold_of(table())
    own = replace(fold.plan, sharing="mmoe", sharing_options={"n_experts": 3, "expert_widths": (8,), "ratio": 0.0})
    space = Space(replace(fold, plan=own), ["hard"], [])
    point = space.choose(Fixed())
    assert plan_with(own, point).sharing_options == {"ratio": 1.0}, "hard: nothing of another method's options"
    again = plan_with(own, {**point, "sharing": {"name": "mmoe", "n_experts": 8}})
    assert again.sharing_options == {"n_experts": 8, "expert_widths": (8,), "ratio": 0.0}


def test_the_plans_own_balancer_is_tried_however_many_tasks_there_are():
    many, _ = fold_of(table(200, 18), 18)
    space = Space(replace(many, plan=replace(many.plan, balancer="pcgrad")), [], ["equal", "cagrad"])
    assert space.balancers == ["pcgrad", "equal"]
    assert space.start()["balancer"] in space.balancers
    assert "pcgrad" not in space.left_out


@pytest.mark.parametrize("arm", ["searched", "tuned_weights", "chosen_ratio"])
def test_too_few_groups_to_divide_again_leave_the_arm_out_and_not_the_study(arm):
    frame = table()
    frame["who"] = np.arange(len(frame)) % 3
    fold, _ = fold_of(frame, group="who", validation=0.5)
    assert len(np.unique(fold.terms.groups)) == 1
    why = make_arm(arm).why_not(fold)
    assert "divides the training rows of a fold once more" in why
    assert "1 groups" in why


def test_an_infinite_error_is_not_left_out_of_a_mean(monkeypatch):
    fold, _ = fold_of(table())
    inner = inner_folds(fold)[0]
    task = inner.tasks[1]
    models = make_arm("single").fit(inner).models
    assert set(inner_errors(inner, list(models))) == {"y0", "y1"}
    monkeypatch.setattr(type(task), "evaluate", lambda self, *_: {"relative_error": float(self.name == "y0") or np.inf})
    with pytest.raises(NonFiniteError, match="'y1' is infinite"):
        inner_errors(inner, list(models))


def test_a_search_stops_when_its_time_is_over():
    fold, _ = fold_of(table(), terms=Terms(50, seconds=1e-9))
    assert make_arm("tuned_weights").fit(fold).search["done"] == 1


def test_terms_that_make_no_sense():
    with pytest.raises(RecipeError, match="mean, tasks"):
        Terms(objective="best")
    with pytest.raises(RecipeError, match="at least one trial"):
        Terms(trials=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'trials'"):
        Study(table(), ["y0", "y1"], search={"n_trials": 5})


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(search_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"polytask\[search\]"):
        make_arm("searched")
