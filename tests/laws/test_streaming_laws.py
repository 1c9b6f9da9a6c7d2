"""Where rows lie changes nothing that is learned: images, recordings and texts in files as in memory, bit for bit."""

import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from polytask import Recipe
from polytask.data import made_up_sentences, read_image_folder, read_recordings, spoken_syllables, write_wav
from polytask.data.scenes import composed_scenes
from polytask.training.data_sets import ArrayData
from polytask.training.text_data import TextData

PATTERN = "(?P<syllable>[a-z]+)_(?P<speaker>.*)_[0-9]+"
TRAINING = {"epochs": 2, "batch_size": 16}


def images(folder):
    from PIL import Image

    scenes = composed_scenes(60, 16)
    bright = scenes.images.reshape(60, -1).mean(1)
    for row, image in enumerate(scenes.images):
        place = folder / "photos" / ("dark" if bright[row] < np.median(bright) else "bright")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place / f"{row:03d}.png")
    read = read_image_folder(folder / "photos")
    tasks = {"folder": "binary"}
    encoder = {"name": "cnn", "channels": [4, 8], "width": 8}
    memory = ArrayData("it", read.images, {"folder": read.labels})
    return memory, {"path": str(folder / "photos")}, tasks, encoder


def recordings(folder):
    made = spoken_syllables(5, n_speakers=3, n_syllables=4)
    (folder / "sounds").mkdir()
    for row, wave in enumerate(made.waves):
        name = f"{made.labels['syllable'][row]}_{made.labels['speaker'][row]}_{row}.wav"
        write_wav(folder / "sounds" / name, wave[: round(made.seconds[row] * made.rate)], made.rate)
    read = read_recordings(folder / "sounds", pattern=PATTERN, seconds=0.15)
    encoder = {"name": "speech", "n_mels": 8, "channels": [4], "width": 8}
    tasks = dict.fromkeys(("syllable", "speaker"), "multiclass")
    reads = {"pattern": PATTERN, "seconds": 0.15}
    return ArrayData("it", read.waves, read.labels), {"path": str(folder / "sounds"), "reads": reads}, tasks, encoder


def texts(folder):
    rows = made_up_sentences(120)
    frame = pd.DataFrame({name: [" ".join(r[key]) for r in rows] for name, key in (("text", "words"), ("pos", "pos"))})
    frame["genre"] = [r["genre"] if row % 3 else None for row, r in enumerate(rows)]
    frame.to_csv(folder / "notes.csv", index=False)
    genre = [r["genre"] if row % 3 else None for row, r in enumerate(rows)]
    memory = TextData("it", [r["words"] for r in rows], {"pos": frame["pos"].tolist(), "genre": genre})
    tasks = {"pos": "tagging", "genre": "multiclass"}
    return memory, {"path": str(folder / "notes.csv"), "reads": "text"}, tasks, {"name": "bigru", "width": 8}


@pytest.mark.parametrize("made", [images, recordings, texts])
def test_streamed_read_at_once_and_given_as_arrays_are_one_training(made, tmp_path):
    memory, spec, tasks, encoder = made(tmp_path)
    recipe = {"tasks": tasks, "encoder": encoder}
    runs = [Recipe(**recipe, training=TRAINING).run(memory)]
    for streamed, ahead in ((False, 2), (True, 0), (True, 3)):
        training = {**TRAINING, "read_ahead": ahead}
        runs.append(Recipe(**recipe, training=training, data={"it": {**spec, "streamed": streamed}}).run())
    first = runs[0].bundle.models[0].model.state_dict()
    for run in runs[1:]:
        found = run.bundle.models[0].model.state_dict()
        assert found.keys() == first.keys()
        assert all(torch.equal(found[name], first[name]) for name in first)
        assert run.record.tasks == runs[0].record.tasks


def test_batches_of_alike_lengths_are_the_same_from_a_file(tmp_path):
    memory, spec, tasks, encoder = texts(tmp_path)
    recipe = {"tasks": tasks, "encoder": encoder, "training": {**TRAINING, "alike_lengths": True}}
    one, other = Recipe(**recipe).run(memory), Recipe(**recipe, data={"it": {**spec, "streamed": True}}).run()
    mine, theirs = (run.bundle.models[0].model.state_dict() for run in (one, other))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_pieces_of_words_follow_from_the_words_alone():
    from polytask.data import Vocabulary

    rows = [r["words"] for r in made_up_sentences(80)]
    states = []
    for order in (rows, rows[::-1]):
        vocabulary = Vocabulary()
        vocabulary.learn("it", order)
        states.append(vocabulary.state())
    assert states[0] == states[1]


def hundred(frame):
    """The table with a hundred targets, each of which is missing in other rows; one is observed in a few rows only."""
    draw = np.random.default_rng(4)
    made = {}
    for task in range(100):
        labels = draw.normal(size=len(frame)) if task % 2 else draw.integers(0, 2, len(frame)).astype(float)
        made[f"t{task}"] = np.where(draw.random(len(frame)) < (0.1 if task == 7 else 0.6), labels, np.nan)
    kinds = {name: "regression" if i % 2 else "binary" for i, name in enumerate(made)}
    return pd.concat([frame, pd.DataFrame(made)], axis=1), kinds


def test_a_hundred_tasks_learn_from_a_streamed_text_file_as_from_memory(tmp_path):
    frame, tasks = hundred(pd.DataFrame({"text": [" ".join(row["words"]) for row in made_up_sentences(90)]}))
    frame.to_csv(tmp_path / "notes.csv", index=False)
    encoder = {"name": "text_cnn", "width": 4}
    runs = []
    for streamed in (False, True):
        spec = {"path": str(tmp_path / "notes.csv"), "reads": "text", "streamed": streamed}
        runs.append(Recipe(tasks=tasks, encoder=encoder, training={**TRAINING, "epochs": 1}, data={"it": spec}).run())
    one, other = (run.bundle.models[0].model.state_dict() for run in runs)
    assert all(torch.equal(other[name], value) for name, value in one.items())
    assert runs[0].record.tasks == runs[1].record.tasks
    assert len(runs[0].record.tasks) == 100


def test_a_hundred_tasks_have_the_labels_of_a_streamed_table_each_in_its_own_rows(tmp_path):
    draw = np.random.default_rng(5)
    frame, tasks = hundred(pd.DataFrame({name: draw.normal(size=200) for name in "ab"}))
    frame.to_parquet(tmp_path / "log.parquet", row_group_size=30, index=False)
    recipe = {"tasks": tasks, "encoder": {"name": "tabular", "width": 4, "n_blocks": 1}, "training": TRAINING}
    path = str(tmp_path / "log.parquet")
    held = Recipe(**recipe, data={"it": {"path": path}}).run()
    run = Recipe(**recipe, data={"it": {"path": path, "streamed": 40}}).run()
    counts = [{name: (of.n_train, of.n_test) for name, of in made.record.tasks.items()} for made in (held, run)]
    assert counts[0] == counts[1]
    trained = run.history[-1]["train"]
    assert {name for name, (n_train, _) in counts[1].items() if n_train} == set(trained)
    assert np.isfinite(list(trained.values())).all()


KILLED = """
import os, signal, sys
from polytask import Recipe
from polytask.training.progress import Silent

class Dies(Silent):
    steps = 0

    def step(self, losses, epoch):
        self.steps += 1
        if self.steps == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

Recipe.load(sys.argv[1]).run(out=sys.argv[2], progress=Dies())
"""


def table_of_clicks(folder):
    draw = np.random.default_rng(6)
    frame = pd.DataFrame({"age": draw.normal(size=150), "user": draw.integers(0, 9, 150).astype(str)})
    frame["click"], frame["stay"] = draw.integers(0, 2, 150), frame["age"] + draw.normal(size=150)
    frame.loc[::3, "stay"] = np.nan
    frame.to_parquet(folder / "log.parquet", row_group_size=20, index=False)
    encoder = {"name": "tabular", "width": 4, "n_blocks": 1, "dropout": 0.2}
    return {"path": str(folder / "log.parquet"), "streamed": 30}, {"click": "binary", "stay": "regression"}, encoder


def file_of_texts(folder):
    _, spec, tasks, encoder = texts(folder)
    return {**spec, "streamed": True}, tasks, encoder


@pytest.mark.parametrize("made", [table_of_clicks, file_of_texts])
def test_a_process_that_is_killed_while_it_reads_ahead_goes_on_with_the_same_bits(made, tmp_path):
    spec, tasks, encoder = made(tmp_path)
    training = {"epochs": 3, "batch_size": 16, "checkpoint_seconds": 0.0, "read_ahead": 3}
    recipe = Recipe(tasks=tasks, encoder=encoder, data={"it": spec}, training=training)
    whole = recipe.run()
    recipe.save(tmp_path / "recipe.yaml")
    at = str(whole.history[0]["step"] + 2)  # in the second epoch, whose order has to be that of the first life
    command = [sys.executable, "-c", KILLED, str(tmp_path / "recipe.yaml"), str(tmp_path / "run"), at]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "run" / "checkpoint").exists()
    resumed = recipe.run(out=tmp_path / "run", resume=True)
    first, second = (run.bundle.models[0].model.state_dict() for run in (whole, resumed))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    lines = [[{k: v for k, v in line.items() if k != "seconds"} for line in run.history] for run in (whole, resumed)]
    assert lines[0] == lines[1]
    assert whole.record.tasks == resumed.record.tasks
