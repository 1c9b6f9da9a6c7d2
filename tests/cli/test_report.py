"""``polytask report``: pages from records alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polytask.cli.app import app

FIXTURE = Path(__file__).parents[1] / "fixtures" / "study_record.json"


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "first"
    folder.mkdir()
    shutil.copy(FIXTURE, folder / "study.json")
    return folder


def report(*arguments: object):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_a_page_is_written_into_the_run_and_named(run):
    done = report(run, "--no-charts")
    assert done.exit_code == 0
    assert done.output.strip() == f"Page: {run / 'page.html'}"
    assert "Learning together helped 1 of 4 tasks" in (run / "page.html").read_text(encoding="utf-8")


def test_the_record_itself_may_be_given(run, tmp_path):
    done = report(run / "study.json", "--out", tmp_path / "new" / "page.html", "--no-charts")
    assert done.exit_code == 0
    assert (tmp_path / "new" / "page.html").exists()


def test_several_runs_are_compared_under_their_names(run, tmp_path):
    other = tmp_path / "second"
    shutil.copytree(run, other)
    plain = json.loads(FIXTURE.read_text(encoding="utf-8"))
    plain["settings"]["seed"] = 5
    (other / "study.json").write_text(json.dumps(plain), encoding="utf-8")
    done = report(run, other, "--out", tmp_path / "both.html")
    assert done.exit_code == 0
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "2 records side by side" in text
    assert '<th scope="col">first</th><th scope="col">second</th>' in text
    assert "settings.seed" in text


def test_a_folder_without_a_record_is_an_error(tmp_path):
    done = report(tmp_path)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "study.json" in done.stderr
