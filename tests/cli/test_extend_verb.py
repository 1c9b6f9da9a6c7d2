"""What a first user of constraints, stages and extensions gets to read when something is not as it should be."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

QUICK = ("--epochs", 1, "--set", "encoder.name=tabular")


def shop(n: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return pd.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 1],
            "city": rng.choice(["Rome", "Oslo"], n),
            "sex": rng.choice(["f", "m"], n),
            "note": [f"a note of its own, number {i}" for i in range(n)],
            "price": x @ [1.0, 2.0] + 0.1 * rng.normal(size=n),
            "returned": np.where(x[:, 0] > 0, "yes", "no"),
        }
    )


@pytest.fixture
def fit(polytask, tmp_path):
    shop().to_csv(tmp_path / "shop.csv", index=False)

    def call(*options, targets="price,returned"):
        return polytask("fit", tmp_path / "shop.csv", "--targets", targets, *QUICK, *options)

    return call


@pytest.fixture
def run(fit, tmp_path):
    done = fit("--out", tmp_path / "r1")
    assert done.code == 0, done.err
    return tmp_path / "r1"


def refused(answer, *words: str) -> None:
    assert answer.code == 2, answer.out + answer.err
    (line,) = answer.err.strip().splitlines()[-1:]
    for text in words:
        assert text in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--constraint", "price.loss<=0.3", "--constraint", "price.loss>=0.5"), "No model keeps price.loss>=0.5 and"),
        (("--constraint", "returned.recall>=1.5"), "is a share from 0 to 1, and so is a bound on it; got at_least 1.5"),
        (("--constraint", "returned.positive_rate by sex within 2"), "got within 2"),
        (("--constraint", "price.r2>=1.5"), "never above 1"),
        (("--constraint", "prise.loss<=1"), "No task named 'prise', for a constraint on prise.loss. Did you mean"),
        (("--schedule", "sequential", "--set", "schedule.order=[price]"), "trains no stage of returned"),
        (("--schedule", "sequential", "--set", "schedule.order=[nope,price,returned]"), "No task named 'nope', for"),
        (("--schedule", "sequential", "--remedies", "ewc,ewc"), "The remedy 'ewc' comes twice"),
        (("--schedule", "sequential", "--remedies", ","), "--remedies names nothing, got ','"),
        (("--set", "remedies.ewc.strength=1000"), "schedule.remedies=[{name: ewc, strength: 1000}]"),
        (
            ("--set", "data.nope.augment=[mixup]"),
            "Source 'nope' has settings but no path, and 'shop' has one. Give it a path, or take its settings out.",
        ),
        (("--set", "data.shop.importance=abc"), "No column named 'abc', for importance of source 'shop'"),
        (("--set", "tasks.price.only_where={sx: f}"), "No column named 'sx', for only_where of task 'price'"),
        (("--set", "tasks.price.only_where={price: 1}"), "Task 'price' cannot be its own condition"),
        (("--set", "tasks.price.only_where=nope"), "only_where needs a mapping such as {name: value}, got 'nope'"),
        (("--set", "tasks.price.learning_rate=abc"), "learning_rate needs a number, got 'abc'"),
        (("--set", "tasks.price.row_weights=city"), "Row weights in 'city' need finite numbers of at least 0; row 0"),
        (("--set", "data.shop.own_norms=maybe"), "data.shop.own_norms needs true or false, got 'maybe'"),
        (("--set", "split.test=2"), "split.test needs a number below 1, got 2"),
        (("--set", "training.schedule=cosin"), "got 'cosin'. Did you mean 'cosine'?"),
        (("--set", "data.shop.file=x"), "No setting named 'file', for data.shop. Known: allow, augment"),
        (("--set", "tasks.prise.patience=2"), "No task named 'prise', for --set tasks.prise.patience. Did you mean"),
    ],
)
def test_what_cannot_be_is_said_before_training(fit, options, words):
    refused(fit(*options), words)


def test_a_kind_that_is_not_known_is_called_a_kind(fit):
    refused(fit(targets="price:cuont"), "No kind of task named 'cuont'. Did you mean 'count'?")


def test_a_run_in_stages_is_told_by_its_schedule_and_constraints_with_their_bounds(fit):
    done = fit("--schedule", "sequential", "--constraint", "price.loss<=1000")
    assert done.code == 0, done.err
    assert "mean" not in done.out.split("Transfer and forgetting")[1].splitlines()[2]
    header = next(line for line in done.out.splitlines() if "multiplier" in line)
    assert header.split() == ["constraint", "bound", "validation", "test", "multiplier", "result"]
    row = next(line for line in done.out.splitlines() if line.strip().startswith("price.loss<=1000"))
    assert "≤ 1000" in row
    assert "±" in row
    assert "--set kinds.note=words" in done.out


def test_a_run_that_is_not_finished_is_called_so(polytask, run):
    (run / "record.json").unlink()
    (run / "bundle" / "bundle.json").rename(run / "kept.json")
    refused(polytask("info", run), "is a run that is not finished", "--resume")
    refused(polytask("report", run), "is a run that is not finished", "--resume")


def test_another_setting_is_named_with_both_values(fit, run):
    (run / "record.json").unlink()
    refused(fit("--out", run, "--resume", "--seed", 3), "recipe.seed was not given, and is 3")


def test_extensions_say_what_is_wrong(polytask, run, tmp_path):
    def extend(frame, *options, targets="z"):
        frame.to_csv(tmp_path / "new.csv", index=False)
        return polytask("extend", run, "--data", tmp_path / "new.csv", "--targets", targets,
                        "--out", tmp_path / "r2", "--epochs", 1, *options)  # fmt: skip

    rows = shop(60, seed=1).drop(columns=["price", "returned"])
    labelled = rows.assign(z=rows["a"] + rows["b"])
    refused(extend(labelled, "--like", "price"), "`like` is for a task without any label", "have 60 of 'z'")
    refused(extend(rows.assign(z=np.nan)), "Task 'z' has no label in the 60 rows", "--like price")
    refused(extend(labelled.assign(z=labelled["z"].where(labelled.index < 1))), "has one label only in the 60 rows")
    refused(extend(labelled, targets="a"), "a: an input of the model cannot be a task of it too")
    refused(extend(labelled, targets=""), "Give --targets z.")
    refused(extend(labelled.assign(price=1.0 * rows["a"]), targets="price"), "rename the column of the new labels")
    refused(extend(labelled, targets="z:cuont"), "No kind of task named 'cuont'")
    refused(extend(labelled, "--old-data", tmp_path / "shop.csv"), "--old-data")
    refused(extend(labelled, "--set", "adapters.bottleneck=8"), "is for --adapters")
    refused(
        polytask("extend", tmp_path / "shop.csv", "--targets", "z", "--out", tmp_path / "r3"), "is a file, no folder"
    )
    assert not (tmp_path / "r2").exists(), "nothing was begun"


def test_an_extension_tells_of_few_labels_of_new_values_and_of_the_tasks_before(polytask, run, tmp_path):
    rows = shop(60, seed=1).drop(columns=["price", "returned"]).assign(city="Paris", late=1.0)
    rows.assign(z=rows["a"] + rows["b"]).to_csv(tmp_path / "new.csv", index=False)
    done = polytask("extend", run, "--data", tmp_path / "new.csv", "--targets", "z", "--out", tmp_path / "r2",
                    "--epochs", 1)  # fmt: skip
    assert done.code == 0, done.err
    assert "city: 1 value that the model does not know (Paris), in 60 of 60 rows" in done.out
    assert "Task 'z' is tested on 12 labels only" in done.out
    assert "Columns that the model has no inputs for are not read: late." in done.out
    told = polytask("info", tmp_path / "r2")
    assert told.code == 0
    assert f"Tasks of {run}" in told.out
    assert [name in told.out for name in ("price", "returned")] == [True, True]
    assert "(left out: note)" in told.out
    assert json.loads((tmp_path / "r2" / "record.json").read_text())["tasks"].keys() == {"z"}
