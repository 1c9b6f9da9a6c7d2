"""What a newcomer is told: what is read, what a folder is, and what to do about a mistake."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from polytask import MultiTaskEstimator, Recipe
from polytask.balancing import NashMTL
from polytask.bundle import Network
from polytask.bundle.lines import Lines
from polytask.data import read_table
from polytask.data.splits import k_folds
from polytask.data.transform import TableTransform
from polytask.errors import DataError, RecipeError, UnknownNameError
from polytask.records import StudyRecord
from polytask.serving.export import _not_one
from polytask.study import Study


def refused(answer) -> str:
    """The one line of standard error."""
    assert answer.code == 2, answer
    (line,) = answer.err.strip().splitlines()
    assert line.startswith("polytask: ")
    return line


def test_info_of_a_study_shows_verdicts_recommendation_and_inputs(polytask, csv, tmp_path):
    out = tmp_path / "study"
    options = ("--arms", "joint,single", "--folds", 2, "--set", "training.epochs=1", "--out", out)
    made = polytask("study", csv, "--targets", "price,ill", *options)
    assert made.code == 0, made.err
    shown = polytask("info", out)
    assert shown.code == 0, shown.err
    record = StudyRecord.load(out)
    for words in (record.recommendation.words, *(verdict.words for verdict in record.verdicts.values())):
        assert words in shown.out
    assert re.search(r"Inputs of .+: length, width, colour\.", shown.out)
    assert "?" not in shown.out.partition("Inputs of")[2]


def test_info_of_an_affinity_folder_says_what_it_is(polytask, tmp_path):
    for name in ("affinity.json", "recipe.json"):
        (tmp_path / name).write_text("{}")
    line = refused(polytask("info", tmp_path))
    assert "keeps no model" in line
    assert f"polytask report {tmp_path}" in line


def test_fit_says_its_inputs_and_predict_what_to_do_about_one_that_lacks(polytask, csv, frame, tmp_path):
    run = tmp_path / "run"
    made = polytask("fit", csv, "--targets", "price", "--epochs", 1, "--out", run)
    assert "Inputs: 4 columns: length, width, colour, ill (leave columns out by --drop)." in made.out
    frame.drop(columns="ill").to_csv(tmp_path / "new.csv", index=False)
    line = refused(polytask("predict", run, tmp_path / "new.csv", "--out", tmp_path / "p.csv"))
    assert "Add the column, empty where unknown; or train again without it (--drop ill)." in line


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("study", "--epochs", "1"), "--set training.epochs=VALUE"),
        (("study", "--batch-size", "1"), "--set training.batch_size=VALUE"),
        (("fit", "--kinds", "x"), "--set kinds.COLUMN=VALUE"),
        (("affinity", "--encoder", "mlp"), "--set encoder=VALUE"),
        (("fit", "--colour", "x"), "--set NAME=VALUE"),
        (("fit", "--target", "x"), "(Possible options: --targets)"),
        (("demo", "--foo", "x"), "No such option: --foo"),
    ],
)
def test_an_unknown_option_names_the_setting_or_what_is_near(polytask, csv, arguments, wanted):
    verb, *options = arguments
    answer = polytask(verb, *([] if verb == "demo" else [csv]), *options)
    assert answer.code == 2
    assert wanted in answer.err
    assert ("Possible" in answer.err) == ("Possible" in wanted)


@pytest.mark.parametrize(("name", "known"), [("tabnet", "unet"), ("patient", "price")])
def test_what_is_not_near_is_not_suggested(name, known):
    assert "Did you mean" not in str(UnknownNameError("encoder", name, [known]))


@pytest.mark.parametrize(("ending", "sign"), [(".csv", ";"), (".csv", "\t"), (".tsv", ",")])
def test_another_separator_is_named(tmp_path, ending, sign):
    path = tmp_path / f"table{ending}"
    path.write_text(f"size{sign}price\n1,5{sign}2\n3{sign}4\n")
    with pytest.raises(DataError, match=re.escape(f"looks separated by {sign!r}")):
        read_table(path)
    if sign == "\t":
        assert read_table(path, separator=sign)["price"].tolist() == [2, 4]


@pytest.mark.parametrize("name", ["table.csv", "table.jsonl"])
def test_another_encoding_is_named(tmp_path, name):
    (tmp_path / name).write_bytes('{"town": "Genève"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"UTF-8 \(byte 0xe8 is none\)\. Save it as UTF-8\."):
        read_table(tmp_path / name)


def test_a_broken_recipe_names_its_file(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("tasks: [a, b\nsharing: hard")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert f"in {path}, line 2" in str(caught.value)
    path.write_bytes("tasks: [Genève]".encode("latin-1"))
    with pytest.raises(RecipeError, match="Save it as UTF-8"):
        Recipe.load(path)


def test_report_of_a_table_says_what_it_takes(polytask, csv):
    line = refused(polytask("report", csv))
    assert "Give a folder of `polytask study`" in line
    assert "Expecting" not in line


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Recipe(tasks=["a"], balancer=NashMTL()), r"balancer.*needs a name, such as 'equal', or \{'name'"),
        (lambda: Recipe(tasks=[1, 2]), "each task needs a name, .*; got 1"),
        (
            lambda: MultiTaskEstimator(training="fast").fit(np.ones((4, 1)), np.arange(4.0)),
            "training needs a mapping of settings, .*got 'fast'",
        ),
    ],
)
def test_settings_in_python_that_are_of_another_kind(make, words):
    with pytest.raises(RecipeError, match=words):
        make()


def test_what_the_network_gives_a_sharing_is_no_option(polytask, csv):
    line = refused(polytask("fit", csv, "--targets", "price,ill", "--set", "sharing.rtio=1"))
    assert line.endswith("No option of sharing 'hard' named 'rtio'. Did you mean 'ratio'? Known: ratio.")


def test_ordinal_texts_without_an_order_name_the_setting(polytask, csv):
    line = refused(polytask("fit", csv, "--targets", "colour:ordinal"))
    assert "--set 'tasks.colour.order=[lowest,...,highest]'" in line
    made = polytask("fit", csv, "--targets", "colour:ordinal", "--epochs", 1, "--set", "tasks.colour.order=[red,green]")
    assert made.code == 0, made.err


def test_many_folds_are_not_listed_one_by_one():
    with pytest.raises(DataError, match=r"\(sizes (\d, ){8}\.\.\.\)"):
        k_folds(60, 500)


def test_a_setting_in_a_note_can_be_pasted():
    texts = [f"word {i} of {i * i}" for i in range(60)]
    transform = TableTransform().fit(pd.DataFrame({"free text": texts, "size": np.arange(60.0)}))
    (note,) = [note for note in transform.notes if "free text" in note]
    assert "--set 'kinds.free text=words' reads" in note


def test_an_interrupted_study_says_how_to_go_on(polytask, csv, tmp_path, monkeypatch):
    def stop(_: Study) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Study, "run", stop)
    answer = polytask("study", csv, "--targets", "price,ill", "--out", tmp_path / "study")
    assert answer.code == 130
    assert f"What is finished is in {tmp_path / 'study'}; go on by the same command with --resume." in answer.err


def test_predict_makes_no_folders(polytask, csv, tmp_path):
    out = tmp_path / "absent" / "p.csv"
    assert "does not exist. Make it first" in refused(polytask("predict", tmp_path, csv, "--out", out))
    assert not out.parent.exists()


def test_export_of_tasks_by_several_models_says_which_have_a_network():
    class Known:
        models = [object.__new__(Network), Lines, Lines]

    assert _not_one(Known, {(0,): ["a", "b"], (1,): ["c"]}) == (
        "A graph is made of one network, but each of these has another model or several: a, b by a model (network); c "
        "by a model (lines). Choose by --tasks: a,b."
    )
    assert _not_one(Known, {(0, 1, 2): ["a"]}).endswith(
        "a by 3 models together (network, lines, lines). polytask predict and serve run such models; for a graph, train "
        "one network by polytask fit."
    )
