"""`polytask affinity` in the terminal."""

import json

import pytest
from typer.testing import CliRunner

from polytask.affinity import AffinityRecord
from polytask.cli.app import app
from polytask.data.generators import clustered_tasks


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "made.csv"
    clustered_tasks((2, 2), 300, n_inputs=8, missing=0.1).frame.to_csv(path, index=False)
    return path


NETWORK = ["--set", "encoder={name: mlp, widths: [8]}", "--set", "training.epochs=3"]


def run(*arguments):
    return CliRunner().invoke(app, ["affinity", *map(str, arguments)])


def test_matrix_harm_groups_and_cost_are_shown_and_kept(table, tmp_path):
    out = tmp_path / "run"
    asked = ["--measures", "gradient_cosine,label_correlation", "--group-by", "label_correlation", "--groups", 2]
    done = run(table, "--targets", "y0,y1,y2,y3", *asked, "--out", out, *NETWORK)
    assert done.exit_code == 0, done.output
    for text in ("gradient_cosine: mean cosine", "Groups by label_correlation (exact)", "verified skill", "random 1"):
        assert text in done.output
    assert "2 groups: y0, y1; y2, y3." in done.output
    record = AffinityRecord.load(out)
    assert record.grouping.chosen.groups == (("y0", "y1"), ("y2", "y3"))
    assert record.grouping.chosen.verified is not None
    assert record.measures["gradient_cosine"].cost["trainings"] == 2
    assert AffinityRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_json_is_the_record_and_nothing_else(table):
    done = run(table, "--targets", "y0,y1", "--measures", "label_correlation", "--groups", 0, "--json", *NETWORK)
    assert done.exit_code == 0, done.output
    record = AffinityRecord.from_json(json.loads(done.stdout))
    assert record.grouping is None
    assert record.measures["label_correlation"].values[0][1] > 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measures", "cosine"], "No measure named 'cosine'"),
        (["--measures", ","], "Name at least one measure"),
        (["--groups", "2", "--cost", "0.5"], "at least one model"),
    ],
)
def test_what_is_wrong_is_one_line(table, arguments, message):
    done = run(table, "--targets", "y0,y1", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
