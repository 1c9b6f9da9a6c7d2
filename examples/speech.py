"""Speech: what is said, spelled out, and who says it, from one encoder: questions that want opposite things of it.

Without options the recordings are made up: strings of syllables by speakers that differ in pitch and vocal tract. Those
of the Free Spoken Digit Dataset are learned with digit, speaker, accent and the digit's word as a transcription; others
are given as a folder or zip archive of WAV files whose names say the labels:

    python examples/speech.py --digits recordings.zip --affinity
    python examples/speech.py --data recordings.zip --pattern "(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<take>[0-9]+)" \\
        --tasks digit,speaker --seconds 0.8
"""

import argparse
import itertools
from pathlib import Path

import numpy as np

from polytask import Recipe
from polytask.affinity import find_affinity
from polytask.cli.affinity import print_affinity
from polytask.cli.terminal import print_record, say
from polytask.data import read_recordings, spoken_digits, spoken_strings
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--digits", type=Path, help="the Free Spoken Digit Dataset: folder or zip archive")
parser.add_argument("--data", type=Path, help="folder or zip archive of WAV files")
parser.add_argument("--pattern", help="regular expression for the files' names; its named groups are the labels")
parser.add_argument("--tasks", help="the labels to learn, a,b; all if left out; 'text' is a transcription")
parser.add_argument("--group", help="a label none of whose values is both trained and tested on, such as speaker")
parser.add_argument("--seconds", type=float, help="keep this much of each recording", default=0.8)
parser.add_argument("--rows", type=int, default=240, help="made-up recordings")
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--sharing", default="hard", help="see: polytask list sharing")
parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
parser.add_argument("--affinity", action="store_true", help="also measure which tasks pull the same way")
arguments = parser.parse_args()

tasks = arguments.tasks.split(",") if arguments.tasks else None
split = {"method": "stratified"}
if arguments.digits:
    recordings = spoken_digits(arguments.digits, seconds=arguments.seconds)
    tasks = tasks or ["digit", "speaker", "accent", "text"]
    split = {"method": "given", "column": "part"}
elif arguments.data:
    recordings = read_recordings(arguments.data, pattern=arguments.pattern, seconds=arguments.seconds)
else:
    recordings = spoken_strings(arguments.rows, n_syllables=5, length=(1, 3))
    say("The recordings are made up: syllables of formants, no voice was recorded.")
labels = dict(recordings.labels)
if not (arguments.digits or arguments.data):
    labels["vowel"] = np.array([text[-1] for text in labels["text"]], dtype=object)  # the last one that is said
if arguments.group:
    split = {"method": "grouped", "column": arguments.group}
tasks = tasks or list(labels)
say(f"{len(recordings.waves)} recordings of {recordings.seconds.mean():.2f} s, {recordings.rate} Hz.")
data = ArrayData("recordings", recordings.waves, {task: labels[task] for task in tasks}, labels)
settings = {
    "encoder": {
        "name": "speech_frames",
        "rate": recordings.rate,
        "n_mels": 32,
        "hop": 0.016,
        "channels": [16, 32],
        "halvings": 1,
    },
    "sharing": arguments.sharing,
    "balancer": arguments.balancer,
    "split": split,
    "training": {"epochs": arguments.epochs, "batch_size": 32, "learning_rate": 2e-3},
}
kinds = {task: "transcription" if task == "text" else "multiclass" for task in tasks}
run = Recipe(tasks=kinds, **settings).run(data, compare=True, progress=Bar())
print_record(run.record)
if arguments.affinity:
    # A network a question, and what each makes of the same recordings: alike where questions want the same of a sound.
    classes = {task: kind for task, kind in kinds.items() if kind == "multiclass"}
    whole = {"encoder": {"name": "speech", "rate": recordings.rate}}
    training = {**settings["training"], "epochs": max(arguments.epochs // 2, 1)}
    found = find_affinity(
        {"recordings": data},
        classes,
        measures=["cka", "gradient_cosine"],
        verify=False,
        **{**settings, **whole, "training": training},
        progress=Bar(),
    )
    print_affinity(found)
    likeness = found.measures["cka"].array
    for (i, one), (j, other) in itertools.combinations(enumerate(classes), 2):
        say(f"{one} and {other}: their own networks see the same recordings {likeness[i, j]:.0%} alike.")
