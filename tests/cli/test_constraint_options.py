"""Constraints on the command line: how they are given, what is printed, the exit status."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def arguments(frame, tmp_path):
    data = tmp_path / "data.csv"
    frame.to_csv(data, index=False)
    return ["fit", data, "--targets", TARGET, "--epochs", 2, "--set", "encoder.name=tabular"]


TARGET = "price"


def test_kept_is_0_and_broken_is_3(polytask, arguments, tmp_path):
    kept = polytask(*arguments, "--constraint", "price.loss<=1000", "--out", tmp_path / "kept")
    assert kept.code == 0
    assert "price.loss<=1000" in kept.out
    assert "kept" in kept.out
    broken = polytask(
        *arguments, "--constraint", "price.loss<=1e-9", "--out", tmp_path / "run", "--multipliers", "nupi"
    )
    assert broken.code == 3
    assert broken.err.splitlines()[-1].startswith("polytask: Not kept: price.loss<=1e-09 (broken: ")
    assert "beyond the bound" in broken.err
    assert (tmp_path / "run" / "bundle").exists(), "the model is saved all the same"
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["constraints"]["price.loss<=1e-09"]["is_kept"] is False
    assert record["recipe"]["multipliers"] == "nupi"
    again = polytask("fit", *arguments[1:], "--constraint", "price.loss<=1e-9", "--out", tmp_path / "run",
                     "--multipliers", "nupi", "--resume", "--json")  # fmt: skip
    assert again.code == 3
    assert json.loads(again.out)["constraints"]["price.loss<=1e-09"]["words"].startswith("broken")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price<=1", "cannot be read. A constraint is one of"),
        ("pric.loss<=1", "No task named 'pric', for a constraint on pric.loss. Did you mean 'price'"),
        ("price.recall>=0.9", "recall is a rate of binary tasks, and 'price' is regression"),
        ("price.loss by nothing within 0.1", "No column named 'nothing', for the groups of a constraint"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_2(polytask, arguments, text, message):
    answer = polytask(*arguments, "--constraint", text)
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1


def test_methods_are_listed_and_help_teaches(polytask):
    assert "nupi" in polytask("list", "multipliers").out
    text = polytask("fit", "--help").out
    assert "--constraint" in text
    assert "exit status is 3" in " ".join(text.replace("│", " ").split())
