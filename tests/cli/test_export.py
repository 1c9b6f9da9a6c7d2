"""``polytask export`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask import Study
from polytask.bundle import SCHEMA
from polytask.data.generators import related_regressions
from polytask.study import Protocol

BUNDLE = Path(__file__).parents[1] / "fixtures" / "bundles" / f"schema-{SCHEMA}"


def test_some_tasks_to_torch(polytask, tmp_path):
    answer = polytask("export", BUNDLE, "--out", tmp_path / "graph", "--to", "torch", "--tasks", "visits,wait")
    assert answer.code == 0, answer.err
    assert "Largest difference" in answer.out
    assert sorted(path.name for path in (tmp_path / "graph").iterdir()) == ["graph.json", "graph.pt2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "torch"), "Choose by --tasks"),
        (("--to", "pickle", "--tasks", "visits"), "onnx or torch"),
        (("--to", "torch", "--int8", "x.csv"), "give --to onnx"),
        (("--tasks", "visit",), "Did you mean 'visits'"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_one_line(polytask, tmp_path, options, words):
    answer = polytask("export", BUNDLE, "--out", tmp_path / "graph", *options)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert words in answer.err
    assert not (tmp_path / "graph").exists()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a,visits\n1,2\n", "lacks 'b'"),
        ("a,b,c,d,town\n1,1,1,1,x\n", "no column with labels of visits"),
        (None, "No file named"),
    ],
)
def test_a_table_that_8_bits_cannot_be_compared_on_is_named_before_the_graph_is_made(polytask, tmp_path, table, words):
    data = tmp_path / "rows.csv"
    if table is not None:
        data.write_text(table)
    answer = polytask("export", BUNDLE, "--out", tmp_path / "graph", "--tasks", "visits", "--int8", data)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert words in answer.err
    assert not (tmp_path / "graph").exists()


def test_tasks_that_no_network_answers_have_no_graph_and_no_advice_that_leads_nowhere(polytask, tmp_path):
    made = related_regressions(2, 60, n_inputs=3)
    Study(made.frame, ["y0", "y1"], arms=["linear"], protocol=Protocol(folds=2), out=tmp_path / "study").run()
    answer = polytask("export", tmp_path / "study", "--out", tmp_path / "graph", "--tasks", "y0")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "Only networks are exported, and y0 is answered without one" in answer.err
    assert "--tasks" not in answer.err
