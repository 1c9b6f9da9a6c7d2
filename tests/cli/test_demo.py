"""``polytask demo``: a study that can be run again, and whose models answer."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from polytask.cli import demo as verb
from polytask.records import StudyRecord

TASKS = {"diagnosis", "worst_concave_points", "worst_texture", "worst_smoothness"}


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """The demo with trainings of an epoch, in an empty folder."""
    monkeypatch.setattr(verb, "EPOCHS", {"epochs": 1})
    monkeypatch.setattr(verb, "ARMS", ("joint", "single", "linear"))
    monkeypatch.setattr(verb, "BUDGET", "0.1s")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_leaves_a_record_a_page_and_models_and_goes_on_where_it_was(polytask, quick):
    answer = polytask("demo")
    assert answer.code == 0, answer.err
    run = quick / "demo-run"
    assert answer.out.splitlines()[-1] == f"Page, to be opened in a browser: {run / 'page.html'}"
    assert (run / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    record = StudyRecord.load(run)
    assert set(record.verdicts) == TASKS
    assert {task.kind for task in record.tasks.values()} == {"binary", "regression"}
    assert all(0.4 < task.n_labels / task.n_rows < 0.6 for task in record.tasks.values())
    for verdict in record.verdicts.values():
        assert verdict.words in answer.out
    assert "2 of 5 folds" in record.left_out
    trained = {file: file.stat().st_mtime_ns for file in run.glob("trials/*/*.json")}

    again = polytask("demo", "--json")
    assert again.code == 0, again.err
    told = json.loads(again.out)
    assert told == json.loads((run / "study.json").read_text(encoding="utf-8"))
    for task, verdict in told["verdicts"].items():
        assert verdict["verdict"] in ("helped", "hurt", "no evidence"), task
        assert isinstance(verdict["gain"], float)
        assert len(verdict["interval"]) == 2
        assert verdict["recommendation"] == told["recommendation"]["arms"][task]
    assert {file: file.stat().st_mtime_ns for file in run.glob("trials/*/*.json")} == trained

    answer = polytask("predict", run, run / "tumours.csv", "--out", quick / "answers.csv")
    assert answer.code == 0, answer.err
    assert set(pd.read_csv(quick / "answers.csv")) >= TASKS


def test_another_demo_takes_the_next_name_and_a_folder_that_was_named_is_not_mixed(polytask, quick):
    (quick / "demo-run").mkdir()
    (quick / "demo-run" / "mine.txt").write_text("mine")
    answer = polytask("demo", "--seed", "1")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1].endswith("demo-run-2/page.html")
    assert [file.name for file in (quick / "demo-run").iterdir()] == ["mine.txt"]
    answer = polytask("demo", "--out", quick / "demo-run")
    assert answer.code == 2
    assert "no run folder of polytask" in answer.err
    assert "Traceback" not in answer.err
