"""A run that was interrupted and went on equals the one that was not, bit for bit."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe
from polytask.errors import RunFolderError, StorageError
from polytask.training.interruption import Interrupted
from polytask.training.loop import Training
from polytask.training.run_folder import RunFolder


def table(n: int = 90, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    price = x @ [1.0, -1.0, 0.5] + rng.normal(size=n)
    price[rng.random(n) < 0.4] = np.nan
    return pd.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 1],
            "c": np.where(x[:, 2] > 0, "high", "low"),
            "price": price,
            "ill": np.where(x[:, 0] + rng.normal(size=n) > 0, "yes", "no"),
            "size": rng.normal(size=n) + x[:, 1],
        }
    )


def recipe(**changes) -> Recipe:
    settings = {
        "tasks": {"price": "regression", "ill": "binary", "size": "regression"},
        "encoder": {"name": "tabular", "width": 8, "dropout": 0.3},
        "training": {"epochs": 4, "batch_size": 8},
        "seed": 3,
    }
    return Recipe(**{**settings, **changes})


def parameters(run) -> dict[str, torch.Tensor]:
    return run.bundle.models[0].model.state_dict()


def assert_equal_runs(one, other) -> None:
    """Everything but clocks."""
    for name, value in parameters(one).items():
        assert torch.equal(value, parameters(other)[name]), name
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in run.history] for run in (one, other)]
    assert timeless[0] == timeless[1]
    records = [run.record.to_json() for run in (one, other)]
    for record in records:
        del record["seconds"], record["notes"]
        for stage in (record["sequence"] or {}).get("stages", ()):
            del stage["seconds"]
    assert records[0] == records[1]


class StopAfter:
    """Asks a training to stop after some steps, as Ctrl-C does."""

    def __init__(self, steps: int):
        self.left = steps

    def start(self, title, n_steps, done): ...

    def stop(self, message): ...

    def step(self, losses, epoch):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def interrupted_and_resumed(asked: Recipe, data, folder: Path, stops: list[int]):
    for i, steps in enumerate(stops):
        with pytest.raises(Interrupted, match="Interrupted after step"):
            asked.run(data, out=folder, resume=i > 0, progress=StopAfter(steps))
    return asked.run(data, out=folder, resume=True)


@pytest.mark.parametrize("balancer", ["equal", "uncertainty", "pcgrad", "famo", "dwa", "gradnorm", "rlw", "cagrad"])
def test_resumed_equals_uninterrupted_with_every_kind_of_state(tmp_path, balancer):
    asked = recipe(balancer=balancer)
    whole = asked.run(table(), out=tmp_path / "whole")
    resumed = interrupted_and_resumed(asked, table(), tmp_path / "cut", [3, 1, 13])
    assert_equal_runs(whole, resumed)
    assert any("went on from its checkpoint" in note for note in resumed.record.notes)


@pytest.mark.parametrize(
    "training",
    [
        {"optimiser": "sgd", "schedule": "cosine", "warmup": 0.2, "clip_norm": 0.5},
        {"optimiser": "adam", "schedule": "plateau", "patience": 2},
        {"patience": None},
        {"patience": 1, "stop_rule": "worst"},
        {"patience": 1, "patience_share": 0.6},
        {"regularisers": [{"penalty": "l1", "strength": 0.01}, {"penalty": "l2", "strength": 0.1, "on": "private"}]},
    ],
)
def test_resumed_equals_uninterrupted_with_every_setting(tmp_path, training):
    asked = recipe(training={"epochs": 5, "batch_size": 8, **training})
    whole = asked.run(table())
    assert_equal_runs(whole, interrupted_and_resumed(asked, table(), tmp_path / "cut", [5, 4]))


@pytest.mark.parametrize("validation", [0.2, 0.0])
def test_resumed_equals_uninterrupted_while_dropout_fades(tmp_path, validation, monkeypatch):
    strengths, end_epoch = [], Training.end_epoch

    def noted(self):
        line = end_epoch(self)
        strengths.append(self.fading.strength)
        return line

    monkeypatch.setattr(Training, "end_epoch", noted)
    data = (
        table().drop(columns=["ill", "c"]).assign(price=lambda t: t["a"] + t["b"] / 2, size=lambda t: t["a"] - t["b"])
    )
    asked = recipe(
        tasks={"price": "regression", "size": "regression"},
        encoder={"name": "tabular", "width": 16, "dropout": 0.3},
        training={"epochs": 12, "batch_size": 8, "dropout_fades": True, "learning_rate": 0.02, "patience": None},
        split={"validation": validation},
    )
    whole = asked.run(data)
    per_epoch, alone = whole.history[0]["step"], list(strengths)
    assert alone[8] < 0.9, "interrupted where it has faded, or nothing is proved"
    strengths.clear()
    resumed = interrupted_and_resumed(asked, data, tmp_path / "cut", [4, 9 * per_epoch])
    assert_equal_runs(whole, resumed)
    assert strengths == alone


@pytest.mark.parametrize("sampler", ["proportional", "round_robin", "temperature", "annealed"])
@pytest.mark.parametrize("balancer", ["equal", "pcgrad"])
def test_resumed_equals_uninterrupted_with_several_sources(tmp_path, sampler, balancer):
    first, second = table(90, 0), table(50, 1).rename(columns={"a": "other"})
    data = {"first": first.drop(columns=["ill", "size"]), "second": second.drop(columns=["price"])}
    asked = recipe(sampler=sampler, balancer=balancer)
    whole = asked.run(data)
    assert_equal_runs(whole, interrupted_and_resumed(asked, data, tmp_path / "cut", [4, 9]))


@pytest.mark.parametrize("multipliers", ["lagrangian", "augmented_lagrangian", "quadratic_penalty", "nupi"])
def test_resumed_equals_uninterrupted_with_constraints(tmp_path, multipliers):
    """Of every kind: followed by batches, corrected by validation rows, by epochs; with groups, margins and rules."""
    asked = recipe(
        constraints=[
            {"task": "size", "at_most": 0.8, "watch": "validation", "margin": "auto"},
            "ill.recall>=0.9",
            "ill.auroc>=0.95",
            "ill.positive_rate by c within 0.1",
            {"weights": "heads.price.weight", "sign": "nonnegative"},
        ],
        multipliers=multipliers,
    )
    whole = asked.run(table())
    assert_equal_runs(whole, interrupted_and_resumed(asked, table(), tmp_path / "cut", [5, 9]))


@pytest.mark.parametrize("stops", [[4, 9], [14, 3], [21]])
def test_resumed_equals_uninterrupted_with_tasks_that_go_their_own_way(tmp_path, stops):
    asked = recipe(
        tasks={
            "price": {"kind": "regression", "patience": 1, "learning_rate": 0.1},
            "ill": {"kind": "binary", "warmup": 0.5, "schedule": "cosine"},
            "size": {"kind": "regression", "only_where": {"ill": True}, "schedule": "plateau", "patience": 2},
        },
        training={"epochs": 6, "batch_size": 16, "learning_rate": 0.05},
    )
    whole = asked.run(table())
    assert whole.history[-1]["stopped"], "a task has stopped, or nothing is proved"
    resumed = interrupted_and_resumed(asked, table(), tmp_path / "cut", stops)
    assert_equal_runs(whole, resumed)
    assert len(whole.bundle.models) == len(resumed.bundle.models)
    for one, other in zip(whole.bundle.models, resumed.bundle.models, strict=True):
        states = one.model.state_dict(), other.model.state_dict()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("balancer", ["equal", "pcgrad"])
def test_resumed_equals_uninterrupted_with_settings_of_sources(tmp_path, balancer):
    first, second = table(90, 0), table(50, 1).rename(columns={"a": "other"})
    data = {"first": first.drop(columns=["ill", "size"]), "second": second.drop(columns=["price"])}
    settings = {
        "first": {"augment": ["mixup", "noise"], "importance": {"to": "second"}},
        "second": {"augment": "cutout", "own_norms": True},
    }
    asked = recipe(data=settings, balancer=balancer)
    whole = asked.run(data)
    assert_equal_runs(whole, interrupted_and_resumed(asked, data, tmp_path / "cut", [4, 9]))


def test_resumed_equals_uninterrupted_with_bounds_by_single_models_and_several_sources(tmp_path):
    first, second = table(90, 0), table(50, 1).rename(columns={"a": "other"})
    data = {"first": first.drop(columns=["ill", "size"]), "second": second.drop(columns=["price"])}
    asked = recipe(balancer="pcgrad", constraints=["all.loss<=single+1%"], training={"epochs": 2, "batch_size": 8})
    whole = asked.run(data)
    # The three single models come first, of two epochs each.
    assert_equal_runs(whole, interrupted_and_resumed(asked, data, tmp_path / "cut", [30, 5]))


def test_a_run_that_is_interrupted_in_a_single_model_says_where_it_goes_on(tmp_path):
    asked = recipe(training={"epochs": 2, "batch_size": 8})
    whole = asked.run(table(), compare=True)
    stop = StopAfter(whole.history[-1]["step"] + 3)
    with pytest.raises(Interrupted, match=r"in a further training of the run.*--resume: .*cut\.$"):
        asked.run(table(), out=tmp_path / "cut", compare=True, progress=stop)
    resumed = asked.run(table(), out=tmp_path / "cut", compare=True, resume=True)
    assert_equal_runs(whole, resumed)
    assert all(result.single is not None for result in resumed.record.tasks.values())


def test_interrupted_at_every_step_of_an_epoch(tmp_path):
    asked = recipe(training={"epochs": 2, "batch_size": 8})
    whole = asked.run(table())
    n_steps = whole.history[0]["step"]
    for stop in range(1, n_steps + 1):
        assert_equal_runs(whole, interrupted_and_resumed(asked, table(), tmp_path / str(stop), [stop]))


def test_a_killed_process_goes_on_from_its_checkpoint(tmp_path):
    data = tmp_path / "data.csv"
    table(400).to_csv(data, index=False)
    asked = recipe(
        data=str(data), training={"epochs": 60, "batch_size": 4, "checkpoint_seconds": 0.0, "patience": None}
    )
    asked.save(tmp_path / "recipe.yaml")
    command = [sys.executable, "-m", "polytask.cli", "fit", str(tmp_path / "recipe.yaml"), "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "cut")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    began = time.monotonic()
    while not (tmp_path / "cut" / "checkpoint").exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() - began < 120
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    assert not (tmp_path / "cut" / "record.json").exists(), "killed too late to prove anything"
    assert_equal_runs(asked.run(), asked.run(out=tmp_path / "cut", resume=True))


def test_ctrl_c_on_the_command_line_leaves_a_checkpoint_and_one_line(tmp_path):
    data = tmp_path / "data.csv"
    table(400).to_csv(data, index=False)
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "polytask.cli", "fit", str(data), "--targets", "price,ill", "--out", str(folder)]
    command += ["--epochs", "4000", "--batch-size", "4", "--set", "training.patience=4000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    began = time.monotonic()
    while not (folder / "history.jsonl").exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() - began < 120
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().startswith("polytask: Interrupted after step")
    assert len(errors.decode().splitlines()) == 1
    assert "--resume" in errors.decode()
    assert RunFolder(folder).load_checkpoint()["progress"]["step"] > 0


def test_a_finished_run_is_given_back_and_not_trained_again(tmp_path, monkeypatch):
    first = recipe().run(table(), out=tmp_path / "run")
    monkeypatch.setattr(Training, "run", lambda *args: pytest.fail("trained again"))
    again = recipe().run(table(), out=tmp_path / "run", resume=True)
    assert_equal_runs(first, again)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_run_that_ended_without_its_record_is_finished(tmp_path):
    """As after a loss of power between the last epoch and the record."""
    whole = recipe().run(table())
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polytask.bundle.Bundle.save", lambda *args: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError):
            recipe().run(table(), out=folder)
    assert_equal_runs(whole, recipe().run(table(), out=folder, resume=True))


def cut_run(folder: Path) -> Path:
    with pytest.raises(Interrupted):
        recipe().run(table(), out=folder, progress=StopAfter(12))
    return folder / "checkpoint"


def test_a_truncated_checkpoint_is_named(tmp_path):
    checkpoint = cut_run(tmp_path / "run")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(RunFolderError, match="checkpoint cannot be read"):
        recipe().run(table(), out=tmp_path / "run", resume=True)


def test_a_history_that_lost_lines_is_named(tmp_path):
    cut_run(tmp_path / "run")
    (tmp_path / "run" / "history.jsonl").write_text("")
    with pytest.raises(RunFolderError, match="0 lines, though the checkpoint counts 1"):
        recipe().run(table(), out=tmp_path / "run", resume=True)


def test_a_half_written_line_of_the_history_is_done_again(tmp_path):
    whole = recipe().run(table())
    cut_run(tmp_path / "run")
    with (tmp_path / "run" / "history.jsonl").open("a") as file:
        file.write('{"epoch": 1, "st')
    assert_equal_runs(whole, recipe().run(table(), out=tmp_path / "run", resume=True))


def test_an_existing_folder_is_refused(tmp_path):
    folder = tmp_path / "run"
    cut_run(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunFolderError, match=r"holds something already.*--resume"):
        recipe().run(table(), out=folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="is a file"):
        recipe().run(table(), out=tmp_path / "file")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match="no run folder"):
        recipe().run(table(), out=tmp_path / "foreign", resume=True)


def test_a_folder_in_which_nothing_was_trained_may_be_used(tmp_path):
    """A run that failed at its settings leaves a recipe behind, which nobody needs to delete."""
    with pytest.raises(ValueError, match="cannot run in the mode"):
        recipe(training={"epochs": 1, "mode": "features"}).run(table(), out=tmp_path / "run")
    recipe(training={"epochs": 1}).run(table(), out=tmp_path / "run")
    assert RunFolder(tmp_path / "run").is_finished


@pytest.mark.parametrize(
    ("changes", "data"),
    [
        ({"seed": 4}, table()),
        ({"tasks": {"size": "regression", "ill": "binary", "price": "regression"}}, table()),
        ({"sharing": {"name": "hard", "ratio": 0.5}}, table()),
        ({}, table(80)),
    ],
)
def test_another_recipe_or_other_data_are_refused(tmp_path, changes, data):
    cut_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"run of another recipe: (recipe|data|order)"):
        recipe(**changes).run(data, out=tmp_path / "run", resume=True)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    """The kernel itself refuses to write more than some bytes into a file."""
    checkpoint = cut_run(tmp_path / "run")
    before = checkpoint.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(StorageError, match=r"Cannot write .*checkpoint"):
            recipe().run(table(), out=tmp_path / "run", resume=True, progress=StopAfter(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert checkpoint.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint",
        "environment.json",
        "history.jsonl",
        "recipe.json",
    ]
    assert_equal_runs(recipe().run(table()), recipe().run(table(), out=tmp_path / "run", resume=True))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="Cannot write"):
        recipe().run(table(), out=tmp_path / "file" / "run")

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("polytask.storage.tempfile.mkstemp", refuse)
    with pytest.raises(StorageError, match=r"Cannot write .*recipe.json: Permission denied"):
        recipe().run(table(), out=tmp_path / "run")


def test_single_models_that_are_done_are_not_trained_again(tmp_path, monkeypatch):
    whole = recipe().run(table(), compare=True)
    folder = tmp_path / "run"
    seen = []
    original = Training.run

    def fail_at_the_third(self, title):
        seen.append(title)
        if len(seen) == 3:
            raise Interrupted("here")
        return original(self, title)

    monkeypatch.setattr(Training, "run", fail_at_the_third)
    with pytest.raises(Interrupted):
        recipe().run(table(), out=folder, compare=True)
    resumed = recipe().run(table(), out=folder, compare=True, resume=True)
    assert seen == ["joint", "price alone", "ill alone", "joint", "ill alone", "size alone"]
    assert_equal_runs(whole, resumed)
