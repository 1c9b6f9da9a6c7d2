"""Mixed heads: one table, a sigmoid head and a linear head, one weighted loss.

From a survey of 6,366 married women (Fair 1978, as shipped in statsmodels): whether there was an affair (a sigmoid
head) and the years of education (a linear head), from age, years married, religiosity and occupations. With
--missing 0.9 nine in ten of the labels of education are taken away first.

    python examples/mixed_heads.py [--missing 0.9]
"""

import argparse

import numpy as np

from polytask import Recipe
from polytask.cli.terminal import print_record
from polytask.data import load_bundled
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--missing", type=float, default=0.0, help="share of the labels of education to take away")
parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
parser.add_argument("--sharing", default="hard", help="see: polytask list sharing")
arguments = parser.parse_args()

table = load_bundled("marriage")
taken = np.random.default_rng(0).random(len(table.frame)) < arguments.missing
table.frame.loc[taken, "education"] = np.nan  # an empty cell is a label that nobody has

recipe = Recipe(
    tasks={"affair": {"kind": "binary", "weight": 1.0}, "education": {"kind": "regression", "weight": 0.5}},
    data={"marriage": {"inputs": list(table.inputs)}},
    sharing=arguments.sharing,
    balancer=arguments.balancer,
    split={"method": "stratified"},
    training={"epochs": arguments.epochs, "learning_rate": 1e-3},
)
run = recipe.run({"marriage": table.frame}, compare=True, progress=Bar())
print_record(run.record)

answers = run.predict(table.frame.head(3))
print("The first three rows:")
for name, answer in answers.items():
    print(f"  {name}: {answer.values}")
