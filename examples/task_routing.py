"""Task routing: one shared layer, a head per task, a loader per task, alternating batches by task.

Three questions about handwritten digits, each asked on rows of its own: is the digit even, is it five or more,
which digit is it. No row has more than one label. Batches come in turn, one task after another.

    python examples/task_routing.py
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

from polytask import Recipe
from polytask.cli.terminal import print_record
from polytask.training.data_sets import ArrayData
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=60)
parser.add_argument("--balancer", default="equal")
arguments = parser.parse_args()

pixels, digit = load_digits(return_X_y=True)
pixels = (pixels / 16).astype(np.float32)
questions = {"is even": digit % 2, "is five or more": digit >= 5, "digit": digit}

# Each question gets a third of the rows: three data sets, three loaders.
rows = np.array_split(np.random.default_rng(0).permutation(len(digit)), len(questions))
loaders = [
    ArrayData(f"loader of {question!r}", pixels[own], {question: answers[own]})
    for own, (question, answers) in zip(rows, questions.items(), strict=True)
]

recipe = Recipe(
    tasks={"is even": "binary", "is five or more": "binary", "digit": "multiclass"},
    encoder={"name": "mlp", "widths": [64]},  # the one shared layer
    sharing="hard",
    balancer=arguments.balancer,
    sampler="round_robin",  # alternating batches by task
    split={"validation": 0.15, "test": 0.25},
    training={"epochs": arguments.epochs, "batch_size": 32, "optimiser": "adam", "learning_rate": 3e-3},
)
run = recipe.run(loaders, compare=True, progress=Bar())
print_record(run.record)
