"""Separation: two voices at once, taken apart by a mask for each, beside the question whether both say the same.

Without options the recordings are made up; those of the Free Spoken Digit Dataset are given as a folder or zip archive.
``--listen FOLDER`` writes mixtures of test rows and what was made of them as WAV files:

    python examples/separation.py --digits recordings.zip --rows 3000 --listen voices
"""

import argparse
from pathlib import Path

import numpy as np

from polytask import Recipe
from polytask.cli.terminal import print_record, say
from polytask.data import mixed, separated, spoken_digits, spoken_syllables, write_wav
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

HOP = 128

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--digits", type=Path, help="the Free Spoken Digit Dataset: folder or zip archive")
parser.add_argument("--rows", type=int, default=400, help="mixtures")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--listen", type=Path, help="folder for WAV files of the first mixtures")
arguments = parser.parse_args()

if arguments.digits:
    recordings, word, part = spoken_digits(arguments.digits, seconds=0.5), "digit", "part"
else:
    recordings, word, part = spoken_syllables(10, n_speakers=4, n_syllables=5, noise=0.005), "syllable", None
    say("The recordings are made up: syllables of formants, no voice was recorded.")
mixtures = mixed(recordings, arguments.rows, within=part)
said = recordings.labels[word][mixtures.rows]
columns = {part: recordings.labels[part][mixtures.rows[:, 0]]} if part else {}
data = ArrayData("mixtures", mixtures.waves, {"voices": mixtures.parts, "same": said[:, 0] == said[:, 1]}, columns)
recipe = Recipe(
    tasks={"voices": {"kind": "separation", "hop": HOP}, "same": "binary"},
    encoder={
        "name": "speech_frames",
        "rate": mixtures.rate,
        "hop": HOP / mixtures.rate,
        "channels": [8],
        "halvings": 0,
    },
    split={"method": "given", "column": part} if part else {"method": "random"},
    training={"epochs": arguments.epochs, "batch_size": 16, "learning_rate": 3e-3},
)
run = recipe.run(data, compare=True, progress=Bar())
print_record(run.record)
if arguments.listen:
    arguments.listen.mkdir(parents=True, exist_ok=True)
    some = np.flatnonzero(columns[part] == "test")[:5] if part else np.arange(5)
    voices = separated(mixtures.waves[some], run.predict(mixtures.waves[some])["voices"].values, hop=HOP)
    for row, whole, parts in zip(some, mixtures.waves[some], voices, strict=True):
        write_wav(arguments.listen / f"{row}_mixture.wav", whole, mixtures.rate)
        for k, voice in enumerate(parts):
            write_wav(arguments.listen / f"{row}_voice_{k + 1}.wav", voice, mixtures.rate)
    say(f"{len(some)} mixtures and their voices are in {arguments.listen}.")
