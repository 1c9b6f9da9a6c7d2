"""Bad input: exit status 2, one line on standard error that says what to do, no traceback, nothing lost."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

FIT = ("--epochs", "1")


def assert_refused(answer, message: str) -> None:
    assert answer.code == 2, answer
    last = answer.err.strip().splitlines()
    assert len(last) == 1, answer.err
    assert last[0].startswith("polytask: ")
    assert re.search(message, last[0]), last[0]
    assert "Traceback" not in answer.err + answer.out


@pytest.fixture
def fit(polytask, tmp_path):
    def call(frame: pd.DataFrame, *arguments, targets="price,ill"):
        path = tmp_path / "given.csv"
        frame.to_csv(path, index=False)
        return polytask("fit", path, "--targets", targets, *FIT, *arguments)

    return call


@pytest.fixture
def run(polytask, csv, tmp_path):
    answer = polytask("fit", csv, "--targets", "price,ill", *FIT, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    return tmp_path / "run"


def test_a_target_that_is_no_column(fit, frame):
    assert_refused(fit(frame, targets="prize"), "No target column named 'prize'. Did you mean 'price'")


def test_no_targets(polytask, csv):
    assert_refused(polytask("fit", csv), "Give --targets")


def test_all_labels_missing(fit, frame):
    assert_refused(fit(frame.assign(price=np.nan)), "'price'.*(all|label).*missing")


def test_one_class_only(fit, frame):
    assert_refused(fit(frame.assign(ill="yes")), "'ill'.*(one|two).*'yes'")


def test_a_class_that_only_held_out_rows_have_is_a_note_and_no_error(polytask, frame, tmp_path):
    """Such rows cannot be scored; the training does not fail for them, and says what it left out."""
    frame["kind"] = [*("cat", "dog", "bird") * 19, "cat", "dog", "yeti"]
    frame["day"] = range(60)
    path = tmp_path / "given.csv"
    frame.to_csv(path, index=False)
    answer = polytask("fit", path, "--targets", "price,kind", "--time", "day", *FIT)
    assert answer.code == 0, answer.err
    assert "test rows of 'given': 1 labels of task 'kind' are of classes that no training row has" in answer.out
    assert "yeti (1)" in answer.out


def test_classes_that_are_given_by_name_may_be_no_others(fit, frame):
    answer = fit(
        frame.assign(kind=["a", "b"] * 29 + ["a", "c"], day=range(60)),
        "--time", "day", "--set", "tasks.kind.classes=[a, b]", "--set", "tasks.kind.kind=multiclass",
        targets="price,kind",
    )  # fmt: skip
    assert_refused(answer, "'kind' knows no class 'c'")


def test_text_where_labels_are_numbers(fit, frame):
    prices = frame["price"].astype(object)
    prices[7] = "cheap"
    assert_refused(fit(frame.assign(price=prices), targets="price:regression,ill"), "'price'.*numbers.*'cheap'")


def test_text_where_inputs_are_numbers(polytask, fit, frame, run, tmp_path):
    lengths = frame["length"].astype(object)
    lengths[3] = "long"
    assert_refused(
        fit(frame.assign(length=lengths), "--set", "data.given.kinds={length: numeric}"),
        "'length' holds numbers, but row 3 has 'long'",
    )
    frame.assign(length=lengths).to_csv(tmp_path / "new.csv", index=False)
    answer = polytask("predict", run, tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert_refused(answer, "'length' holds numbers, but row 3 has 'long'")
    assert not (tmp_path / "p.csv").exists()


def test_a_target_that_is_also_an_input(fit, frame):
    assert_refused(fit(frame, "--inputs", "length,price"), "price: a target cannot be an input too")


@pytest.mark.parametrize("copy", [lambda p: p, lambda p: 1.8 * p + 32, lambda p: p.astype(str)])
def test_a_column_that_equals_a_target(fit, frame, copy):
    frame["twin"] = copy(frame["price"])
    assert_refused(fit(frame), "'twin' is a copy of target 'price'")
    assert fit(frame, "--drop", "twin").code == 0
    assert fit(frame, "--set", "data.given.allow=[twin]").code == 0


def test_an_empty_file(polytask, tmp_path):
    path = tmp_path / "empty.csv"
    path.write_text("")
    assert_refused(polytask("fit", path, "--targets", "a"), "is empty")
    path.write_text("a,b\n")
    assert_refused(polytask("fit", path, "--targets", "a"), "no rows")


def test_two_rows_are_too_few(fit, frame):
    assert_refused(fit(frame.iloc[:2], targets="price"), "2 rows cannot be split")


def test_a_missing_file_a_folder_and_an_unknown_ending(polytask, tmp_path):
    assert_refused(polytask("fit", tmp_path / "no.csv", "--targets", "a"), "No file named")
    assert_refused(polytask("fit", tmp_path, "--targets", "a"), "is a folder")
    (tmp_path / "table.docx").write_text("a,b\n1,2\n")
    assert_refused(polytask("fit", tmp_path / "table.docx", "--targets", "a"), "extension '.docx'.*Known: .*.csv")


def test_a_file_that_is_not_what_its_name_says(polytask, tmp_path):
    (tmp_path / "table.parquet").write_bytes(b"no parquet at all")
    assert_refused(polytask("fit", tmp_path / "table.parquet", "--targets", "a"), "not a Parquet file")
    (tmp_path / "table.csv").write_bytes(b"a,b\n\xff\xfe\x00,2\n")
    assert_refused(polytask("fit", tmp_path / "table.csv", "--targets", "a"), "cannot be read")


def test_columns_of_another_number_or_name_at_prediction(polytask, frame, run, tmp_path):
    out = tmp_path / "p.csv"
    frame[["length", "colour"]].to_csv(tmp_path / "new.csv", index=False)
    assert_refused(polytask("predict", run, tmp_path / "new.csv", "--out", out), "lacks 'width'")
    assert not out.exists()
    frame[["colour", "width", "length"]].assign(more=1).to_csv(tmp_path / "new.csv", index=False)
    assert polytask("predict", run, tmp_path / "new.csv", "--out", out).code == 0, "order and further columns are free"
    written = out.stat().st_mtime_ns
    again = polytask("predict", run, tmp_path / "new.csv", "--out", out, "--resume")
    assert (again.code, again.out.split(" rows")[0]) == (0, f"Done: {len(frame)}")
    assert out.stat().st_mtime_ns == written
    assert_refused(polytask("predict", run, tmp_path / "new.csv", "--out", out), "nothing is overwritten")


def test_infinity_in_inputs(polytask, fit, frame, run, tmp_path):
    bad = frame.assign(width=frame["width"].where(frame.index != 5, np.inf))
    assert_refused(fit(bad), "'width', row .*infinite")
    bad.to_csv(tmp_path / "new.csv", index=False)
    answer = polytask("predict", run, tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert_refused(answer, "'width', row 5: the value is infinite")


def test_infinity_in_labels(fit, frame):
    assert_refused(fit(frame.assign(price=frame["price"].where(frame.index != 5, np.inf))), "'price'.*inf")


def test_missing_inputs_are_no_error(polytask, fit, frame, run, tmp_path):
    holes = frame.mask(np.random.default_rng(0).random(frame.shape) < 0.3)
    assert fit(holes).code == 0
    holes.drop(columns=["price", "ill"]).to_csv(tmp_path / "new.csv", index=False)
    answer = polytask("predict", run, tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert answer.code == 0
    assert pd.read_csv(tmp_path / "p.csv").notna().all(axis=None)


def test_a_loss_that_is_not_finite_names_the_task(fit, frame):
    answer = fit(frame, "--set", "training.learning_rate=1e30", "--set", "training.optimiser=sgd", "--epochs", "9")
    assert_refused(answer, r"(Step \d+ \(epoch \d+, a batch of 'given'\): The loss of task|Parameter .* became NaN)")


def test_an_existing_run_folder(polytask, csv, run):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    answer = polytask("fit", csv, "--targets", "price,ill", *FIT, "--out", run)
    assert_refused(answer, "holds something already.*--resume")
    assert_refused(
        polytask("fit", csv, "--targets", "price,ill", "--epochs", "2", "--out", run, "--resume"), "another recipe"
    )
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert polytask("fit", csv, "--targets", "price,ill", *FIT, "--out", run, "--resume").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--balancer", "nash"), "No balancer named 'nash'. Did you mean 'nash_mtl'"),
        (("--sharing", "mmoo"), "Did you mean 'mmoe'"),
        (("--encoder", "tabluar"), "Did you mean 'tabular'"),
        (("--set", "balncer=equal"), "Did you mean 'balancer'"),
        (("--set", "training.epoch=3"), "Did you mean 'epochs'"),
        (("--set", "training.epochs=few"), "epochs needs a whole number, got 'few'"),
        (("--set", "sharing.ratoi=1"), "Did you mean 'ratio'"),
        (("--set", "sharing.ratio=7"), "ratio between 0 and 1"),
        (("--set", "epochs"), "needs NAME=VALUE"),
        (("--set", "training=[1"), "training"),
        (("--set", "split.test=0.9"), "leave no row for training"),
        (("--set", "tasks.price.kind=regresion"), "Did you mean 'regression'"),
        (("--set", "tasks.price.wieght=2"), "Did you mean 'weight'"),
        (("--set", "tasks.price.weight=-1"), "weight of at least 0"),
        (("--set", "training.stop_rule=task:prise"), "Did you mean 'price'"),
        (("--set", "training.device=gpu"), "device"),
        (("--group", "patient"), "No column to split by named 'patient'"),
        (("--group", "colour", "--time", "length"), "by --group or by --time"),
        (("--drop", "colur"), "Did you mean 'colour'"),
        (("--inputs", "lenght"), "Did you mean 'length'"),
        (("--drop", "length,width,colour"), "no input column left"),
        (("--device", "cuda:99"), "cuda"),
    ],
)
def test_settings_that_cannot_be_used(fit, frame, arguments, message):
    assert_refused(fit(frame, *arguments), message)


def test_a_recipe_that_cannot_be_read(polytask, tmp_path):
    path = tmp_path / "recipe.yaml"
    assert_refused(polytask("fit", path), "Cannot read the recipe")
    path.write_text("tasks: [a\n")
    assert_refused(polytask("fit", path), "recipe")
    path.write_text("- a\n")
    assert_refused(polytask("fit", path), "recipe")
    path.write_text("tasks: [a]\n")
    assert_refused(polytask("fit", path), "names no data")
    path.write_text("tasks: [a]\ndata: none.csv\n")
    assert_refused(polytask("fit", path), "No file named 'none.csv'")
    assert_refused(polytask("fit", path, "--targets", "a"), "either a recipe or --targets")
    path.write_text("tasks: []\ndata: none.csv\n")
    assert_refused(polytask("fit", path), "at least one task")


def test_predict_and_info_on_what_is_no_run(polytask, csv, run, tmp_path):
    assert_refused(polytask("predict", tmp_path, csv, "--out", tmp_path / "p.csv"), "is no bundle")
    assert_refused(polytask("info", tmp_path / "nothing"), "is no bundle")
    assert_refused(polytask("predict", run, csv, "--out", tmp_path / "p.docx"), "the ending must be one of")
    assert_refused(
        polytask("predict", run, csv, "--out", tmp_path / "p.csv", "--tasks", "prise"), "Did you mean 'price'"
    )
    assert_refused(polytask("predict", run, csv, "--out", tmp_path / "p.csv", "--source", "x"), "No source named 'x'")
    (tmp_path / "file").write_text("x")
    assert_refused(polytask("predict", run, csv, "--out", tmp_path / "file" / "p.csv"), "Cannot write")
    (run / "bundle" / "bundle.json").write_text("{")
    assert_refused(polytask("info", run), "is damaged")


def test_list_of_an_unknown_role(polytask):
    assert_refused(polytask("list", "balancer"), "Did you mean 'balancers'")


def test_a_run_folder_that_cannot_be_made(polytask, csv, tmp_path):
    (tmp_path / "file").write_text("x")
    assert_refused(polytask("fit", csv, "--targets", "price", *FIT, "--out", tmp_path / "file" / "run"), "Cannot write")
    assert_refused(polytask("fit", csv, "--targets", "price", *FIT, "--out", tmp_path / "file"), "is a file")


def test_a_target_named_twice(fit, frame):
    assert_refused(fit(frame, targets="price,ill,price"), "--targets names 'price' twice")


def test_the_column_of_groups_is_no_input(polytask, fit, frame, tmp_path):
    grouped = frame.assign(patient=[i // 3 for i in range(len(frame))])
    assert fit(grouped, "--group", "patient", "--out", tmp_path / "run").code == 0
    frame.to_csv(tmp_path / "new.csv", index=False)  # no patients
    assert polytask("predict", tmp_path / "run", tmp_path / "new.csv", "--out", tmp_path / "p.csv").code == 0


def test_a_label_that_is_no_number_is_named_by_its_row_in_the_table(fit, frame):
    frame = frame.assign(price=frame["price"].astype(object))
    frame.loc[7, "price"] = "hello"
    assert_refused(fit(frame, targets="price:regression,ill"), "'hello' in row 7")


def test_engines_that_there_are_not_and_what_they_need(fit, frame, tmp_path):
    assert_refused(fit(frame, "--engine", "rai"), r"No engine named 'rai'. Did you mean 'ray'\?")
    assert_refused(fit(frame, "--engine", "ray", "--processes", "2"), "--engine ray needs --out")
    refused = fit(frame, "--address", "auto", "--out", tmp_path / "run")
    assert_refused(refused, "--address is that of a Ray cluster: give --engine ray too")
