"""Groups of rows where it is less plain: several sources, the last training of a study, groups of very unequal sizes."""

import numpy as np
import pandas as pd
import pytest

from polytask import Recipe
from polytask.affinity import readings as module
from polytask.affinity.ground import Ground, half
from polytask.affinity.opening import open_prepared
from polytask.data.joined import joined_values
from polytask.data.splits import Split
from polytask.errors import DataError, RecipeError
from polytask.study import Protocol
from polytask.study.affinities import affinity_of
from polytask.study.arm import why_not_learn
from polytask.study.bench import Bench, LastTraining, Material, Place
from polytask.study.naming import make_arm
from polytask.study.opening import open_question
from polytask.training.planning import plan_of

NETWORK = {"encoder": {"name": "mlp", "widths": [4]}, "training": {"epochs": 1, "batch_size": 64}}
MEASURE = "label_correlation"


def visits(patients, targets, seed=0):
    """A row for each of the given patients."""
    rng = np.random.default_rng(seed)
    n = len(patients)
    numbers = {"x": rng.normal(size=n), "z": rng.normal(size=n), "patient": patients}
    return pd.DataFrame({**numbers, **{target: rng.normal(size=n) for target in targets}})


def who(sources, of, groups):
    """Whose rows these are, found by their inputs among the rows that the groups are of."""
    found = set()
    for name, source in sources.items():
        rows = [tuple(row.tolist()) for row in of[name].inputs["numeric"]]
        numbers = dict(zip(rows, groups[name], strict=True))
        found |= {int(numbers[tuple(row.tolist())]) for row in source.inputs["numeric"]}
    return found


def bench_of(data, targets, **protocol):
    recipe = Recipe(tasks=list(targets), data={}, **NETWORK)
    asked = Protocol(group="patient", **protocol)
    sets = data if isinstance(data, dict) else {"data": data}
    for frame in sets.values():
        frame["patient"] = frame["patient"].astype(str)
    question = open_question(recipe, data)
    return Bench(Material(question.data, question.tasks, recipe, asked))


def test_a_patient_of_several_sources_is_on_one_side_of_the_split_in_all_of_them():
    # A patient's number is 1 in one table and 1.0 in the other, in which somebody had none.
    first = visits(np.repeat(np.arange(20), 6), ["y0"])
    second = visits(np.repeat(np.arange(20), 4).astype(float), ["y1"], seed=1)
    _, prepared, groups = open_prepared({"one": first, "two": second}, ["y0", "y1"], 0, NETWORK, group="patient")
    tables = {"one": first, "two": second}
    parts = [
        {number for name, table in tables.items() for number in table["patient"][getattr(prepared.splits[name], part)]}
        for part in ("train", "validation", "test")
    ]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert set.union(*parts) == set(range(20))
    assert all(set(getattr(prepared, part)) == {"one", "two"} for part in ("train", "validation", "test"))
    assert {name: len(column) for name, column in groups.items()} == {n: len(s) for n, s in prepared.train.items()}
    halves = [who(half(prepared, 0, which, groups)[0].train, prepared.train, groups) for which in (0, 1)]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == parts[0]


def test_a_source_without_a_training_row_is_said():
    many, one = visits(np.repeat(np.arange(10), 4), ["y0"]), visits(np.repeat([3], 30), ["y1"], seed=1)
    asked = {**NETWORK, "split": {"validation": 0.1, "test": 0.6}}
    with pytest.raises(DataError, match="no training row of 'one'"):
        open_prepared({"many": many, "one": one}, ["y0", "y1"], 0, asked, group="patient")


@pytest.mark.parametrize("column", [np.array([1, 2], dtype=object), np.array(["1", "2"]), np.array([1.0, 2.0])])
def test_values_of_columns_of_other_types_are_the_same(column):
    joined = joined_values([np.array([1, 2]), column])
    assert joined[0] == joined[2] != joined[1] == joined[3]
    assert pd.isna(joined_values([np.array([1]), np.array([None, "a"], dtype=object)])[1])


@pytest.mark.parametrize(("method", "said"), [("time", "by time"), ("given", "as a column says")])
@pytest.mark.parametrize("is_recipe", [True, False])
def test_a_group_beside_another_way_of_dividing_is_refused(method, said, is_recipe):
    split = {"method": method, "column": "day"}
    given = Recipe(tasks=["y0"], data={"v": {"path": "v.csv"}}, split=split) if is_recipe else visits([1, 2], ["y0"])
    settings = {} if is_recipe else {"split": split}
    with pytest.raises(RecipeError, match=f"{said} .'day'.*--group"):
        open_prepared(given, None if is_recipe else ["y0"], 0, settings, group="patient")


def test_a_recipe_without_a_split_takes_the_group_and_one_with_shares_keeps_them(tmp_path):
    visits(np.repeat(np.arange(20), 4), ["y0"]).to_csv(tmp_path / "v.csv", index=False)
    for split, n_test in (({}, 16), ({"split": {"test": 0.5}}, 40)):
        recipe = Recipe(tasks=["y0"], data={"v": {"path": str(tmp_path / "v.csv")}}, **split, **NETWORK)
        _, prepared, groups = open_prepared(recipe, None, 0, {}, group="patient")
        assert len(prepared.test["v"]) == n_test
        assert len(groups["v"]) == len(prepared.train["v"])


@pytest.mark.parametrize("seed", range(6))
def test_the_patient_with_most_rows_is_not_held_back(seed):
    frame = visits(np.concatenate([np.zeros(180), np.repeat(np.arange(1, 11), 2)]), ["y0", "y1"])
    settings = {**NETWORK, "split": {"validation": 0.0, "test": 0.0}}
    recipe, prepared, groups = open_prepared(frame, ["y0", "y1"], 0, settings, group="patient")
    ground = Ground(prepared, plan_of(recipe, prepared), seed, groups=groups).prepared
    assert 0 < len(ground.validation["data"]) <= 0.15 * 200
    sides = [who(part, prepared.train, groups) for part in (ground.train, ground.validation)]
    assert 0 in sides[0]
    assert not sides[0] & sides[1]
    two = {"data": np.repeat([0, 1], [150, 50])}
    ground = Ground(prepared, plan_of(recipe, prepared), seed, groups=two).prepared
    assert (len(ground.train["data"]), len(ground.validation["data"])) == (150, 50)


@pytest.mark.parametrize("patient", range(8))
def test_a_patient_who_is_all_of_a_source_is_not_held_back_in_another(patient):
    first, second = visits(np.repeat(np.arange(8), 10), ["y0"]), visits(np.repeat([patient], 4), ["y1"], seed=1)
    prepared = open_prepared(
        {"one": first, "two": second}, ["y0", "y1"], 0, {**NETWORK, "split": {"validation": 0.0, "test": 0.0}}
    )[1]
    groups = {"one": first["patient"].to_numpy(), "two": second["patient"].to_numpy()}
    plan = plan_of(Recipe(tasks=["y0", "y1"], **NETWORK), prepared)
    ground = Ground(prepared, plan, groups=groups).prepared
    assert set(ground.train) == {"one", "two"}
    sides = [who(part, prepared.train, groups) for part in (ground.train, ground.validation)]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_the_last_model_of_a_study_measures_by_patient_too(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "half", lambda *given: seen.append(half(*given)) or seen[-1])
    names = ["y0", "y1", "y2"]
    frame = visits(np.repeat(np.arange(20), 5), names)
    bench = bench_of(frame, names)
    bench.carry_out(LastTraining(f"grouped:{MEASURE}", tuple(names), {f"epochs {name}": 1.0 for name in names}))
    whole, groups = bench.whole.prepared.train, {"data": frame["patient"]}
    halves = [ready.train for ready, _ in seen[-2:]]
    assert sum(len(part["data"]) for part in halves) == len(frame)
    assert not who(halves[0], whole, groups) & who(halves[1], whole, groups)
    plan = bench.whole.plan
    for ready, mine in seen[-2:]:
        ground = Ground(ready, plan, groups=mine).prepared
        assert not who(ground.train, whole, groups) & who(ground.validation, whole, groups)


def test_a_source_whose_tasks_are_absent_on_a_fold_has_no_groups_there():
    first, second = visits(np.repeat(np.arange(8), 5), ["y0", "y1", "y2"]), visits(np.repeat(np.arange(8), 5), ["y3"])
    second.loc[:29, "y3"] = np.nan
    bench = bench_of({"one": first, "two": second}, ["y0", "y1", "y2", "y3"])
    early, late = np.arange(25), np.arange(30, 40)
    rows = [np.concatenate([part, part + 40]) for part in (early, np.arange(25, 30), late)]
    fold = bench.fold(Place(0, 0, Split(*rows)))[0].data
    assert list(fold.terms.groups) == list(fold.prepared.train) == ["one"]
    assert why_not_learn(make_arm("grouped"), fold) == ""
    assert len(affinity_of(fold, MEASURE).values) == 3


@pytest.mark.parametrize("arm", ["grouped", "helpers"])
def test_one_patient_to_train_on_is_said_by_the_arm_and_does_not_end_the_study(arm):
    frame = visits(np.repeat(np.arange(3), 20), ["y0", "y1", "y2"])
    bench = bench_of(frame, ["y0", "y1", "y2"])
    rows = np.arange(60)
    fold = bench.fold(Place(0, 0, Split(rows[:20], rows[20:40], rows[40:])))[0].data
    assert "it has too few groups" in why_not_learn(make_arm(f"{arm}:{MEASURE}"), fold)
    assert affinity_of(fold, MEASURE).seeds == 1
    assert why_not_learn(make_arm(f"{arm}:{MEASURE}"), bench.whole) == ""
