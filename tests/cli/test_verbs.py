"""The verbs, from the outside."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from polytask import Recipe, load
from polytask.cli.app import app
from polytask.cli.terminal import number, print_table
from polytask.training.progress import Bar

VERBS = [command.name for command in app.registered_commands]
HEAVY = ("torch", "pandas", "sklearn", "numpy", "scipy", "rich.console", "optuna", "ray")


def in_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import polytask",
        "import polytask.cli",
        *(
            f"import sys; sys.argv = {['polytask', *arguments]}\nfrom polytask.cli import main\ntry: main()\n"
            "except SystemExit: pass"
            for arguments in (["--help"], ["--version"], *([verb, "--help"] for verb in VERBS))
        ),
    ],
)
def test_nothing_heavy_is_loaded_to_say_what_there_is(code):
    out = in_new_process(
        f"{code}\nimport sys, time\nprint('LOADED', [m for m in {HEAVY} if m in sys.modules])\nprint(time.process_time())"
    )
    *_, loaded, seconds = out.splitlines()
    print(f"{float(seconds):.3f} s of CPU: {code.splitlines()[0]}")
    assert loaded == "LOADED []"


def test_list_loads_no_torch():
    out = in_new_process(
        "import sys; sys.argv = ['polytask', 'list']\nfrom polytask.cli import main\ntry: main()\nexcept SystemExit: pass\n"
        "print('LOADED', 'torch' in sys.modules)"
    )
    assert out.splitlines()[-1] == "LOADED False"
    assert "nash_mtl" in out
    assert "regression" in out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb):
    answer = CliRunner().invoke(app, [verb, "--help"])
    assert answer.exit_code == 0
    assert f"polytask {verb}" in answer.output.replace("root", "polytask")


def test_summaries_of_the_verbs_are_whole():
    answer = CliRunner().invoke(app, ["--help"])
    assert "..." not in answer.output.partition("Commands:")[2]
    assert all(f"  {verb} " in answer.output for verb in VERBS)


def test_no_arguments_show_the_help(polytask):
    assert "Commands:" in (answer := polytask()).out + answer.err


def test_fit_predict_info(polytask, csv, frame, tmp_path):
    answer = polytask("fit", csv, "--targets", "price,ill", "--epochs", "3", "--out", tmp_path / "run")
    assert answer.code == 0
    assert "regression" in answer.out
    assert "binary" in answer.out
    new = frame.drop(columns=["price", "ill"])
    new.to_parquet(tmp_path / "new.parquet")
    answer = polytask("predict", tmp_path / "run", tmp_path / "new.parquet", "--out", tmp_path / "p.csv")
    assert answer.out == f"60 rows x 4 columns -> {tmp_path / 'p.csv'}\n"
    written = pd.read_csv(tmp_path / "p.csv")
    assert list(written) == ["price", "ill", "P(ill=no)", "P(ill=yes)"]
    pd.testing.assert_frame_equal(written, load(tmp_path / "run").predict_frame(new), check_dtype=False)
    answer = polytask("predict", tmp_path / "run", csv, "--out", tmp_path / "p.parquet", "--tasks", "ill")
    assert list(pd.read_parquet(tmp_path / "p.parquet")) == ["ill", "P(ill=no)", "P(ill=yes)"]
    answer = polytask("info", tmp_path / "run")
    assert "Inputs of table: length, width, colour." in answer.out
    assert "tabm encoder, hard sharing" in answer.out
    told = json.loads(polytask("info", tmp_path / "run", "--json").out)
    assert set(told["metrics"]) == {"price", "ill"}


def test_info_of_a_bundle_without_a_run(polytask, csv, tmp_path):
    polytask("fit", csv, "--targets", "price,ill", "--epochs", "1", "--out", tmp_path / "run")
    answer = polytask("info", tmp_path / "run" / "bundle")
    assert answer.code == 0
    assert "test metric" in answer.out


def test_json_is_nothing_but_json(polytask, csv):
    answer = polytask("fit", csv, "--targets", "price:regression,ill", "--epochs", "1", "--json")
    record = json.loads(answer.out)
    assert record["tasks"]["price"]["kind"] == "regression"
    assert record["epochs"] == 1


def test_options_reach_the_recipe(polytask, csv, tmp_path):
    polytask(
        "fit", csv, "--targets", "price,ill:multiclass", "--epochs", "2", "--batch-size", "16", "--learning-rate", "0.01",
        "--sharing", "mmoe", "--balancer", "uncertainty", "--seed", "5", "--stratify", "--drop", "colour",
        "--set", "sharing.n_experts=2", "--set", "tasks.price.weight=2", "--out", tmp_path / "run",
    )  # fmt: skip
    asked = json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]
    assert Recipe(**asked) == Recipe(
        tasks={"price": {"weight": 2}, "ill": "multiclass"},
        data={"table": {"path": str(csv), "drop": ["colour"]}},
        split={"method": "stratified"},
        sharing={"name": "mmoe", "n_experts": 2},
        balancer="uncertainty",
        training={"epochs": 2, "batch_size": 16, "learning_rate": 0.01},
        seed=5,
    )


def test_a_recipe_file_gives_the_same_run(polytask, csv, tmp_path):
    first = polytask("fit", csv, "--targets", "price,ill", "--epochs", "2", "--json")
    Recipe(**json.loads(first.out)["recipe"]).save(tmp_path / "recipe.yaml")
    second = polytask("fit", tmp_path / "recipe.yaml", "--json")
    records = [json.loads(answer.out) for answer in (first, second)]
    for record in records:
        del record["seconds"]
    assert records[0] == records[1]


def test_names_with_commas_and_colons(polytask, frame, tmp_path):
    named = frame.rename(columns={"price": "price, EUR", "ill": "ill: now"})
    named.to_csv(tmp_path / "t.csv", index=False)
    answer = polytask(
        "fit", tmp_path / "t.csv", "--targets", r"price\, EUR,ill: now:multiclass", "--epochs", "1", "--json"
    )
    assert {k: v["kind"] for k, v in json.loads(answer.out)["tasks"].items()} == {
        "price, EUR": "regression",
        "ill: now": "multiclass",
    }


def test_compare_puts_single_models_beside(polytask, csv):
    answer = polytask("fit", csv, "--targets", "price,ill", "--epochs", "2", "--compare")
    assert "single" in answer.out
    assert "chance" in answer.out


def test_tables_in_a_file_keep_names_whole(capsys):
    names = [f"a task with a rather long name, number {i}" for i in range(3)]
    print_table(["task", "note", "value"], [[name, "x " * 80, 1.5] for name in names])
    out = capsys.readouterr().out
    assert all(name in out for name in names)
    assert len(out.strip().splitlines()) == 5


def test_numbers_as_a_person_reads_them():
    assert [number(v) for v in (None, float("nan"), 0.0, 1e-9, 1234.5, 1e7, 12, True, "x")] == [
        "-", "-", "0", "1e-09", "1234", "10,000,000", "12", "True", "x",
    ]  # fmt: skip


def test_the_bar_asks_for_losses_only_when_it_shows_them(capsys):
    bar = Bar(seconds=1000.0)
    bar.start("joint", 10, 0)
    bar.step(lambda: pytest.fail("asked"), 0)
    bar.stop("done")
    assert capsys.readouterr().err == "done\n"
    bar = Bar(seconds=0.0)
    bar.start("joint", 10, 4)
    bar.step(lambda: {f"task {i}": float(i) for i in range(100)}, 2)
    bar.stop("")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("joint: step 5 of 10, epoch 3  task 0 0.000")
    assert line.endswith("...")


def test_a_short_training_shows_no_bar(monkeypatch, capsys):
    """A bar that is gone at once only flickers."""
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda self: True))
    bar = Bar()
    bar.start("joint", 3, 0)
    for _ in range(3):
        bar.step(lambda: pytest.fail("asked"), 0)
    bar.stop("joint: done")
    assert capsys.readouterr().err == "joint: done\n"


def test_a_bar_of_a_hundred_tasks_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda self: True))
    monkeypatch.setattr(Bar, "PATIENCE", 0.0)
    monkeypatch.setenv("COLUMNS", "80")
    bar = Bar()
    bar.start("joint", 3, 0)
    rng = np.random.default_rng(0)
    bar.step(lambda: {f"a long name of task {i}": rng.random() for i in range(100)}, 0)
    shown = capsys.readouterr().err
    bar.stop("")
    lines = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", shown).replace("\r", "\n").strip().splitlines()
    assert "1/3" in lines[-1]
    assert "a long name of task 0 0.6" in lines[-1]
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b[2A" not in shown, "went up more than the one line of the bar"
