"""Synthesis: how a speaker says a word, as a spectrogram and its length, also where no such recording was heard.

One pair of word and speaker in six is held out: the model heard the word from others and the speaker with other words;
one more in six says when to stop.
``--listen FOLDER`` writes what it makes of these pairs as WAV files, by the phases that Griffin and Lim's iteration
finds. A speaker of whom nothing was heard cannot be asked for: who speaks is an input here.

    python examples/synthesis.py --digits recordings.zip --listen made
    python examples/synthesis.py --data my.zip --pattern "(?P<speaker>[a-z]+)_(?P<word>[a-z]+)_[0-9]+"
"""

import argparse
from pathlib import Path

import numpy as np

from polytask import Recipe
from polytask.cli.terminal import print_record, say
from polytask.data import heard, read_recordings, spectrograms, spoken_digits, spoken_syllables, write_wav
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--digits", type=Path, help="the Free Spoken Digit Dataset: folder or zip archive")
parser.add_argument("--data", type=Path, help="folder or zip archive of WAV files")
parser.add_argument("--pattern", help="regular expression for the files' names, with the groups speaker and word")
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--listen", type=Path, help="folder for WAV files of the pairs that were held out")
arguments = parser.parse_args()

if arguments.digits:
    recordings, word = spoken_digits(arguments.digits), "digit"
elif arguments.data:
    recordings, word = read_recordings(arguments.data, pattern=arguments.pattern, seconds=0.8), "word"
else:
    recordings, word = spoken_syllables(10, n_speakers=6, n_syllables=10, noise=0.003), "syllable"
    say("The recordings are made up: syllables of formants, no voice was recorded.")
seconds = np.minimum(recordings.seconds, recordings.waves.shape[1] / recordings.rate)
sound = spectrograms(recordings.waves, seconds, recordings.rate)
known = {name: np.unique(recordings.labels[name].astype(str), return_inverse=True) for name in (word, "speaker")}
(words, said), (speakers, by) = known[word], known["speaker"]
inputs = np.concatenate([np.eye(len(words))[said], np.eye(len(speakers))[by]], 1).astype(np.float32)
# Pairs that were not heard say when to stop, too: those that were would have it learn each of them by heart.
turn = (said + by) % 6
part = np.where(turn == 5, "test", np.where(turn == 4, "validation", "train")).astype(object)
data = ArrayData("recordings", inputs, {"sound": sound, "seconds": seconds}, {"part": part})
recipe = Recipe(
    tasks={"sound": "synthesis", "seconds": "regression"},
    encoder={"name": "mlp", "widths": [64, 64]},
    split={"method": "given", "column": "part"},
    training={"epochs": arguments.epochs, "batch_size": 32, "learning_rate": 2e-3},
)
run = recipe.run(data, compare=True, progress=Bar())
print_record(run.record)

test, train = part == "test", part == "train"


def distance(made: np.ndarray) -> float:
    """Log-spectral distance of the test rows."""
    return float(np.sqrt(np.square(made - sound[test]).mean(2)).mean())


mean = sound[train].mean(0)
of_word = np.stack([sound[train & (said == k)].mean(0) for k in range(len(words))])
of_speaker = np.stack([sound[train & (by == k)].mean(0) for k in range(len(speakers))])
pairs = np.stack([sound[test & (said == s) & (by == b)].mean(0) for s, b in zip(said[test], by[test], strict=True)])
say("Log-spectral distance in decibels, pairs that were held out:")
say(
    f"the model {distance(run.predict(inputs[test])['sound'].values):.2f}, one mean for all {distance(mean[None]):.2f},"
)
say(f"mean of the word {distance(of_word[said[test]]):.2f}, of the speaker {distance(of_speaker[by[test]]):.2f},")
say(f"both means added {distance(of_word[said[test]] + of_speaker[by[test]] - mean):.2f},")
say(f"what no model can beat, the mean of the pair's own recordings {distance(pairs):.2f}.")
if arguments.listen:
    arguments.listen.mkdir(parents=True, exist_ok=True)
    rows = np.flatnonzero(test)[np.unique(np.stack([said, by], 1)[test], axis=0, return_index=True)[1]]
    answers = run.predict(inputs[rows])
    for row, wave in zip(rows, heard(answers["sound"].values, answers["seconds"].values, recordings.rate), strict=True):
        write_wav(arguments.listen / f"{words[said[row]]}_{speakers[by[row]]}.wav", wave, recordings.rate)
    say(f"{len(rows)} recordings that were never made are in {arguments.listen}.")
