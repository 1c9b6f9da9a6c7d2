"""Where rows lie changes nothing that is learned: images, recordings and texts in files as in memory, bit for bit."""

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
