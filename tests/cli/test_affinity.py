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
        (["--groups", "0", "--cost", "3"], "--groups 0 asks for no groups, and --cost 3"),
    ],
)
def test_what_is_wrong_is_one_line(table, arguments, message):
    done = run(table, "--targets", "y0,y1", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_nothing_is_overwritten_and_a_finished_run_is_shown_again(table, tmp_path):
    out = tmp_path / "run"
    asked = (table, "--targets", "y0,y1", "--measures", "label_correlation", "--groups", 0, "--out", out, *NETWORK)
    first = run(*asked)
    assert first.exit_code == 0
    assert "No groups were made: --groups 0 asks for none." in first.output
    assert "No groups were asked for." in (out / "page.html").read_text()
    kept = (out / "affinity.json").read_bytes()
    again = run(*asked)
    assert again.exit_code == 2
    assert "nothing is overwritten. Choose another --out, or go on with it by --resume." in again.stderr
    assert run(*asked, "--resume").exit_code == 0
    assert (out / "affinity.json").read_bytes() == kept
    other = run(*asked, "--resume", "--seed", 1)
    assert other.exit_code == 2
    assert "the run of another recipe" in other.stderr


def test_an_interrupted_run_goes_on(table, tmp_path, monkeypatch):
    out = tmp_path / "run"
    asked = (table, "--targets", "y0,y1,y2,y3", "--groups", 2, "--out", out, *NETWORK)
    monkeypatch.setattr("polytask.affinity.finding.make_grouping", interrupted)
    stopped = run(*asked)
    assert stopped.exit_code == 130
    assert stopped.stderr == f"polytask: Interrupted. What is finished is in {out}; go on by --resume.\n"
    assert len(list((out / "done").iterdir())) == 4  # two measures, two seeds
    monkeypatch.undo()
    monkeypatch.setattr("polytask.affinity.measures.gradient_cosine.GradientCosine.read", interrupted)
    assert run(*asked, "--resume").exit_code == 0
    assert AffinityRecord.load(out).grouping.chosen.verified is not None


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_several_sources_by_a_recipe(tmp_path):
    paths = []
    for name in ("y", "z"):
        frame = clustered_tasks((2,), 80, n_inputs=4).frame
        paths.append(tmp_path / f"{name}.csv")
        frame.rename(columns={"y0": f"{name}0", "y1": f"{name}1"}).to_csv(paths[-1], index=False)
    recipe = tmp_path / "recipe.json"
    data = {path.stem: {"path": str(path)} for path in paths}
    recipe.write_text(json.dumps({"tasks": ["y0", "y1", "z0", "z1"], "data": data, "training": {"epochs": 2}}))
    done = run(recipe, "--measures", "gradient_cosine", "--groups", 0, "--seeds", 1, *NETWORK[:2], "--json")
    assert done.exit_code == 0, done.output
    record = AffinityRecord.from_json(json.loads(done.stdout))
    assert set(record.data) == {"y", "z"}
    assert record.measures["gradient_cosine"].values[0][2] is not None
    assert "give either a recipe or --targets" in run(recipe, "--targets", "y0").stderr
