"""A table of free texts and two label columns through the verbs: fit, predict, study, serve; and what is no text."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from polytask.data import made_up_reviews, made_up_sentences

WORDS = ("--set", "kinds.review=words")
SMALL = ("--set", "encoder=mlp", "--set", "training.epochs=2")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Reviews with a mood and a genre; of some the text, of others the mood is missing."""
    n = 120
    frame = pd.DataFrame(
        {
            "review": [" ".join(words) for words, _ in made_up_reviews(n)],
            "mood": [mood for _, mood in made_up_reviews(n)],
            "genre": [row["genre"] for row in made_up_sentences(n)],
        }
    )
    frame.loc[[3, 50], "mood"] = None
    frame.loc[7, "review"] = None
    frame.loc[9, "review"] = "  "
    path = tmp_path_factory.mktemp("texts") / "re.views.csv"
    frame.to_csv(path, index=False)
    return path


def test_from_a_table_of_texts_to_answers_for_new_ones(polytask, reviews, tmp_path):
    run = tmp_path / "run"
    done = polytask("fit", reviews, "--targets", "mood,genre", *WORDS, *SMALL, "--out", run)
    assert done.code == 0, done.err
    new, out = tmp_path / "new.csv", tmp_path / "answers.csv"
    new.write_text('review\n"it was fine"\n""\nwords never met\n', encoding="utf-8")
    done = polytask("predict", run, new, "--out", out)
    assert done.code == 0, done.err
    answers = pd.read_csv(out)
    assert set(answers["mood"]) <= {"pos", "neg"}
    assert len(answers) == 3, "a text that is missing holds no known word, and is answered all the same"
    new.write_text("text\nit was fine\n", encoding="utf-8")
    done = polytask("predict", run, new, "--out", tmp_path / "more.csv")
    assert done.code == 2
    assert "lacks 'review'" in done.err


def test_a_study_of_a_table_of_texts(polytask, reviews, tmp_path):
    more = ("--arms", "joint,linear", "--holdout", 0.3, "--repeats", 2, "--budget", "none", "--workers", 1)
    out = tmp_path / "study"
    done = polytask("study", reviews, "--targets", "mood,genre", *WORDS, *more, *SMALL, "--out", out)
    assert done.code == 0, done.err
    record = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert record["arms"]["linear"]["error"]["genre"]["mean"] < 1.0
    new = tmp_path / "new.csv"
    new.write_text("review\nit was fine\n", encoding="utf-8")
    assert polytask("predict", out, new, "--out", tmp_path / "p.csv").code == 0


def test_free_text_is_left_out_unless_asked_for_and_the_way_to_ask_is_said(polytask, reviews):
    done = polytask("fit", reviews, "--targets", "mood,genre", "--epochs", 1)
    assert done.code == 2
    assert "No input column is left" in done.err
    assert "kinds.review=words" in done.err
    done = polytask("fit", reviews, "--targets", "mood,genre", "--set", "kinds.review=wrods", "--epochs", 1)
    assert done.code == 2
    assert "wrods" in done.err
    assert "words" in done.err
    done = polytask("fit", reviews, "--targets", "mood,genre", "--set", "kinds.reveiw=words", "--epochs", 1)
    assert done.code == 2
    assert "Did you mean 'review'" in done.err


def test_a_setting_of_a_source_says_which_where_there_are_several(polytask, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("tasks: [mood]\ndata: {a: {path: a.csv}, b: {path: b.csv}}\n", encoding="utf-8")
    done = polytask("fit", recipe, *WORDS)
    assert done.code == 2
    assert "data.SOURCE.kinds.review=words, SOURCE one of a, b" in done.err
