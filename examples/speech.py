"""Speech: what is said and who says it, from one encoder, two questions that want opposite things of it.

Without options the recordings are made up: syllables of formants by speakers that differ in pitch and vocal tract. Real
ones are given as a folder or zip archive of WAV files whose names say the labels, as those of the Free Spoken Digit
Dataset do:

    python examples/speech.py --data recordings.zip --pattern "(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<take>[0-9]+)" \\
        --tasks digit,speaker --seconds 0.8
"""

import argparse
from pathlib import Path

from polytask import Recipe
from polytask.cli.terminal import print_record, say
from polytask.data import read_recordings, spoken_syllables
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, help="folder or zip archive of WAV files")
parser.add_argument("--pattern", help="regular expression for the files' names; its named groups are the labels")
parser.add_argument("--tasks", help="the labels to learn, a,b; all if left out")
parser.add_argument("--group", help="a label none of whose values is both trained and tested on, such as speaker")
parser.add_argument("--seconds", type=float, help="keep this much of each recording")
parser.add_argument("--rows", type=int, default=1200, help="made-up recordings")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--sharing", default="hard", help="see: polytask list sharing")
parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
arguments = parser.parse_args()

if arguments.data:
    recordings = read_recordings(arguments.data, pattern=arguments.pattern, seconds=arguments.seconds)
else:
    recordings = spoken_syllables(max(arguments.rows // 60, 1))
    say("The recordings are made up: syllables of formants, no voice was recorded.")
tasks = arguments.tasks.split(",") if arguments.tasks else list(recordings.labels)
say(f"{len(recordings.waves)} recordings, {recordings.waves.shape[1] / recordings.rate:.2f} s, {recordings.rate} Hz.")
data = ArrayData("recordings", recordings.waves, {task: recordings.labels[task] for task in tasks}, recordings.labels)
recipe = Recipe(
    tasks=dict.fromkeys(tasks, "multiclass"),
    encoder={"name": "speech", "rate": recordings.rate},
    sharing=arguments.sharing,
    balancer=arguments.balancer,
    split={"method": "grouped", "column": arguments.group} if arguments.group else {"method": "stratified"},
    training={"epochs": arguments.epochs, "batch_size": 32, "learning_rate": 2e-3},
)
run = recipe.run(data, compare=True, progress=Bar())
print_record(run.record)
