"""Digits of MNIST beside the Latin letters of Omniglot, split by the person who drew: joint and single, several seeds.

python bench/digits_and_latin.py --data ../shared/data
"""

import argparse
import io
import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from polytask import Recipe
from polytask.cli.terminal import print_table
from polytask.data import read_idx_images
from polytask.training.data_sets import ArrayData

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="folder with mnist_t10k and omniglot_small")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--balancer", default="equal")
arguments = parser.parse_args()

mnist = arguments.data / "mnist_t10k"
digits, digit = read_idx_images(mnist / "t10k-images-idx3-ubyte.gz", mnist / "t10k-labels-idx1-ubyte.gz")
letters, letter, drawer = [], [], []
with zipfile.ZipFile(arguments.data / "omniglot_small" / "images_background_small1.zip") as archive:
    for name in sorted(archive.namelist()):
        found = re.search(r"/Latin/character(\d+)/\d+_(\d+)\.png$", name)
        if found:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                letters.append(255 - np.asarray(image.convert("L").resize((28, 28), Image.Resampling.LANCZOS)))
            letter.append(found[1])
            drawer.append(int(found[2]))

rows = []
for seed in range(arguments.seeds):
    recipe = Recipe(
        tasks={"digit": {"kind": "multiclass", "weight": 0.5}, "letter": {"kind": "multiclass", "weight": 0.5}},
        encoder="cnn",
        balancer=arguments.balancer,
        split={"method": "grouped", "column": "person", "validation": 0.2, "test": 0.2},
        training={"epochs": arguments.epochs, "batch_size": 32, "optimiser": "adam"},
        seed=seed,
    )
    # Who wrote a digit is not known: each counts as a person.
    sources = [
        ArrayData("digits", digits[:2600], {"digit": digit[:2600]}, {"person": np.arange(2600)}),
        ArrayData("letters", np.stack(letters)[:, None], {"letter": letter}, {"person": drawer}),
    ]
    record = recipe.run(sources, compare=True).record
    for task, result in record.tasks.items():
        rows.append([seed, task, result.metrics["accuracy"], (result.single or {})["accuracy"], result.n_test])
print_table(["seed", "task", "joint accuracy", "single accuracy", "test rows"], rows)
