"""Separation: two voices at once, taken apart by a mask for each, beside the question whether both say the same.

Without options the recordings are made up; those of the Free Spoken Digit Dataset are given as a folder or zip archive,
others as one of WAV files whose names say the speaker and the word. ``--unheard a,b`` tests on mixtures of speakers
that no training row has, and ``--listen FOLDER`` writes mixtures of test rows and what was made of them as WAV files:

    python examples/separation.py --digits recordings.zip --rows 3000 --listen voices
    python examples/separation.py --digits recordings.zip --rows 3000 --unheard theo,yweweler
    python examples/separation.py --data my.zip --pattern "(?P<speaker>[a-z]+)_(?P<word>[a-z]+)_[0-9]+" --seconds 0.8
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from polytask import Recipe
from polytask.cli.terminal import print_record, say
from polytask.data import mixed, read_recordings, separated, spoken_digits, spoken_syllables, write_wav
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

HOP = 128

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--digits", type=Path, help="the Free Spoken Digit Dataset: folder or zip archive")
parser.add_argument("--data", type=Path, help="folder or zip archive of WAV files")
parser.add_argument("--pattern", help="regular expression for the files' names, with the groups speaker and word")
parser.add_argument("--seconds", type=float, default=0.5, help="keep this much of each recording")
parser.add_argument("--unheard", help="speakers to test on, a,b: two or more, none of whose recordings is learned from")
parser.add_argument("--rows", type=int, default=400, help="mixtures")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--listen", type=Path, help="folder for WAV files of the first mixtures")
arguments = parser.parse_args()

if arguments.digits:
    recordings, word, part = spoken_digits(arguments.digits, seconds=arguments.seconds), "digit", "part"
elif arguments.data:
    recordings = read_recordings(arguments.data, pattern=arguments.pattern, seconds=arguments.seconds)
    word, part = "word", None
else:
    recordings, word, part = spoken_syllables(10, n_speakers=4, n_syllables=5, noise=0.005), "syllable", None
    say("The recordings are made up: syllables of formants, no voice was recorded.")
if arguments.unheard:
    # All recordings of these speakers are for the test; of the others every tenth is for early stopping.
    is_unheard = np.isin(recordings.labels["speaker"].astype(str), arguments.unheard.split(","))
    others = np.where(np.arange(len(is_unheard)) % 10 == 0, "validation", "train")
    recordings = replace(
        recordings, labels={**recordings.labels, "part": np.where(is_unheard, "test", others).astype(object)}
    )
    part = "part"
mixtures = mixed(recordings, arguments.rows, within=part)
said = recordings.labels[word][mixtures.rows]
columns = {part: recordings.labels[part][mixtures.rows[:, 0]]} if part else {}
data = ArrayData("mixtures", mixtures.waves, {"voices": mixtures.parts, "same": said[:, 0] == said[:, 1]}, columns)
recipe = Recipe(
    # Each task is answered by the network of its own best epoch.
    tasks={
        "voices": {"kind": "separation", "hop": HOP, "patience": arguments.epochs},
        "same": {"kind": "binary", "patience": arguments.epochs},
    },
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
