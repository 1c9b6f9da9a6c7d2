import numpy as np
import pandas as pd
import pytest

from polytask import Study
from polytask.data.splits import Split
from polytask.errors import InputError
from polytask.study import Protocol
from polytask.study.leakage import leak_warnings
from polytask.tasks import Binary, Regression
from polytask.training.data_sets import ArrayData, TableData


def clean(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=["a", "b", "c", "d"])
    frame["kind"] = rng.choice(["p", "q", "r"], n)
    frame["y"] = frame["a"] + rng.normal(size=n)
    frame["ill"] = np.where(frame["b"] + rng.normal(size=n) > 0, "yes", "no")
    return frame


TASKS = [Regression(name="y"), Binary(name="ill")]


def found(frame, group=None, tasks=TASKS, drop=(), split=None, **options):
    data = TableData("data", frame, targets=[t for task in tasks for t in task.targets], drop=drop, options=options)
    return leak_warnings(data, tasks, group, split=split)


def halves(n: int) -> Split:
    return Split(np.arange(n // 2), np.zeros(0, dtype=np.int64), np.arange(n // 2, n))


def test_clean_data_has_no_sign_of_a_leak():
    assert found(clean()) == []


@pytest.mark.parametrize(
    ("name", "make", "task"),
    [
        ("echo", lambda f: f["y"] ** 3, "y"),
        ("rounded", lambda f: f["y"].round(2), "y"),
        ("diagnosis", lambda f: f["ill"].map({"yes": "A12", "no": "B7"}).where(np.arange(len(f)) % 7 > 0, "C1"), "ill"),
        ("score", lambda f: np.where(f["ill"] == "yes", 1.0, -1.0) + 0.2 * f["c"], "ill"),
    ],
)
def test_a_column_that_gives_a_target_away(name, make, task):
    frame = clean()
    frame[name] = make(frame)
    warnings = found(frame)
    # The third diagnosis hides a seventh of the answers, which is no giveaway.
    expected = [] if name == "diagnosis" else [(name, task)]
    assert [(w["columns"][0], w["task"]) for w in warnings if w["kind"] == "giveaway"] == expected


def test_a_certain_copy_is_an_error():
    with pytest.raises(InputError, match="twice"):
        found(clean().assign(twice=lambda f: 2 * f["y"]))


def test_an_identifier_gives_nothing_away():
    frame = clean().assign(number=np.arange(300)).sort_values("a")
    assert not [w for w in found(frame) if w["kind"] == "giveaway"]


def test_targets_that_say_the_same():
    frame = clean().assign(z=lambda f: 5 - 2 * f["y"])
    tasks = [*TASKS, Regression(name="z")]
    warnings = [w for w in found(frame, tasks=tasks) if w["kind"] == "copied targets"]
    assert [w["columns"] for w in warnings] == [["y", "z"]]


def test_rows_that_come_twice():
    frame = clean()
    few = pd.concat([frame, frame[:5]], ignore_index=True)
    many = pd.concat([frame, frame[:50]], ignore_index=True)
    assert [(w["kind"], w["severity"]) for w in found(few)] == [("duplicates", "note")]
    assert [(w["kind"], w["severity"]) for w in found(many)] == [("duplicates", "warning")]
    assert "100 of 350" in found(many)[0]["words"]


def test_rows_that_come_twice_within_a_group_are_on_one_side():
    frame = clean().assign(who=np.arange(300))
    twice = pd.concat([frame, frame[:50]], ignore_index=True)
    assert found(twice, group="who", drop=["who"]) == []


def test_copies_are_counted_on_both_sides_of_the_split():
    frame = clean()
    copied = pd.concat([frame, frame[:50]], ignore_index=True)
    assert "50 of the 175 test rows of the first fold" in found(copied, split=halves(350))[0]["words"]
    beside = pd.concat([frame[:50], frame], ignore_index=True)
    (warning,) = found(beside, split=halves(350))
    assert "0 of the 175 test rows" in warning["words"]
    assert warning["severity"] == "note"


def test_a_name_that_no_model_reads_does_not_tell_copies_apart():
    frame = pd.concat([clean(), clean()[:50]], ignore_index=True)
    frame["label"] = [f"sample number {i}" for i in range(350)]
    assert [w["kind"] for w in found(frame)] == ["duplicates"]


def test_a_molecule_that_is_written_in_two_ways_is_one():
    n = 40
    frame = pd.DataFrame({"smiles": ["C" * (i + 1) + "O" for i in range(n)], "y": np.arange(n) % 7.0})
    frame.loc[n - 1, "smiles"] = "OCC"
    tasks = [Regression(name="y")]
    assert found(frame, tasks=tasks, drop=()) == []
    (warning,) = found(frame, tasks=tasks, kinds={"smiles": "molecule"}, split=halves(n))
    assert "2 of 40 rows have the same molecule as another row" in warning["words"]
    assert "1 of the 20 test rows" in warning["words"]


def test_things_that_are_on_one_side_only_ask_for_nothing():
    frame = clean()
    frame["patient"] = np.arange(300) // 6
    assert [w for w in found(frame, split=halves(300)) if w["kind"] == "entity"] == []
    frame["patient"] = np.arange(300) % 50
    (warning,) = [w for w in found(frame, split=halves(300)) if w["kind"] == "entity"]
    assert "of 50 of its 50 values" in warning["words"]


@pytest.mark.parametrize("name", ["patient", "patientId", "Subject#", "user_id"])
def test_things_with_several_rows_ask_for_a_group(name):
    frame = clean()
    frame[name] = np.arange(300) // 6
    kinds = [(w["kind"], w["columns"]) for w in found(frame)]
    assert ("entity", [name]) in kinds
    assert ("entity", [name]) not in [(w["kind"], w["columns"]) for w in found(frame, group=name, drop=[name])]


def test_arrays_are_not_looked_at():
    data = ArrayData("images", np.zeros((4, 1, 2, 2)), {"y": np.arange(4.0)})
    assert leak_warnings(data, [Regression(name="y")]) == []


def test_a_source_without_test_rows_has_copies_all_the_same():
    nothing = np.zeros(0, dtype=np.int64)
    frame = pd.concat([clean(), clean()[:30]], ignore_index=True)
    (warning,) = found(frame, split=Split(np.arange(len(frame)), nothing, nothing))
    assert "0 of the 0 test rows" in warning["words"]


def test_a_copy_of_a_target_is_refused_unless_a_study_allows_it():
    frame = clean(60)
    frame["twin"] = 2 * frame["a"]
    with pytest.raises(InputError, match=r"--set allow=\[COLUMN\] of a study"):
        Study(frame, ["a"], arms=["linear"]).run()
    record = Study(frame, ["a"], arms=["linear"], protocol=Protocol(folds=3), allow=["twin"]).run()
    assert record.arms["linear"].error["a"].mean < 0.1


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_values_that_no_tree_can_hold_are_no_crash(value):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(120, 3)), columns=["a", "wild", "y"])
    frame.loc[119, "wild"] = value
    assert not giveaways(frame)
    frame["echo"] = frame["y"] ** 3
    frame.loc[frame["y"].idxmax() if value > 0 else frame["y"].idxmin(), "echo"] = value
    assert [one["columns"] for one in giveaways(frame)] == [["echo"]]


def giveaways(frame: pd.DataFrame) -> list[dict]:
    found = leak_warnings(TableData("data", frame, targets=["y"]), [Regression(name="y")])
    return [one for one in found if one["kind"] == "giveaway"]
