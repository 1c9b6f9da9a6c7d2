"""Two inputs: two different inputs for two tasks, concatenated into a shared layer, two softmax heads.

Each row pairs the picture of a digit (64 pixels) with the chemistry of a wine (13 numbers). One head names the digit,
the other the grower of the wine. The inputs have nothing to do with each other, so sharing can hardly help here: the
example shows the wiring, and the table says what it costs.

    python examples/two_inputs.py
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.preprocessing import scale

from polytask import Recipe
from polytask.cli.terminal import print_record
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=60)
parser.add_argument("--balancer", default="equal")
arguments = parser.parse_args()

pixels, digit = load_digits(return_X_y=True)
chemistry, grower = load_wine(return_X_y=True)

# Rows are 178, one for each wine: no wine, and no picture, comes twice, so none is on both sides of the split.
chosen = np.random.default_rng(0).permutation(len(digit))[: len(grower)]
pairs = ArrayData(
    "pairs",
    {"picture": (pixels[chosen] / 16).astype(np.float32), "chemistry": scale(chemistry).astype(np.float32)},
    {"digit": digit[chosen], "grower": grower},
)

recipe = Recipe(
    tasks={"digit": "multiclass", "grower": "multiclass"},
    encoder={"name": "mlp", "widths": [128]},  # concatenates its inputs, then one shared layer
    balancer=arguments.balancer,
    split={"validation": 0.15, "test": 0.3},
    training={"epochs": arguments.epochs, "batch_size": 16, "optimiser": "adam", "learning_rate": 3e-3},
)
run = recipe.run(pairs, compare=True, progress=Bar())
print_record(run.record)
