"""Constraints: a model that must find three in four of the cases, whatever that costs the other answers.

From a survey of 6,366 married women (Fair 1978, as shipped in statsmodels): whether there was an affair (a third of
them), and the years of education. A model that is free to choose finds few of the affairs, because saying "no" is
right more often. Three models of one network: free, with the bound on recall, and with a margin of 1.64 standard
errors of the validation rows, which makes up for the noise of the choice. The multiplier tells how hard the bound
pulls: 0 where it would be kept without it.

    python examples/constrained.py

The same on the command line, with exit status 3 if the bound is not kept:

    polytask fit marriage.csv --targets affair,education --constraint "affair.recall>=0.75"
"""

import argparse

from polytask import Recipe
from polytask.cli.terminal import print_table
from polytask.data import load_bundled
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--recall", type=float, default=0.75, help="what the second and the third model must reach")
parser.add_argument("--multipliers", default="augmented_lagrangian", help="see: polytask list multipliers")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

table = load_bundled("marriage")
bound = {"task": "affair", "metric": "recall", "at_least": arguments.recall}
ways = {
    "free": {**bound, "at_least": 0.0},  # a bound that every model keeps, so that its recall is reported
    "bound": bound,
    "bound with a margin": {**bound, "margin": "auto"},
}
rows = []
for name, constraint in ways.items():
    recipe = Recipe(
        tasks={"affair": "binary", "education": "regression"},
        data={"marriage": {"inputs": list(table.inputs)}},
        encoder={"name": "tabular", "width": 64},
        constraints=[constraint],
        multipliers=arguments.multipliers,
        split={"method": "stratified"},
        training={"epochs": arguments.epochs, "batch_size": 128, "learning_rate": 1e-3, "stop_rule": "mean"},
        seed=arguments.seed,
    )
    record = recipe.run({"marriage": table.frame}, progress=Bar()).record
    (recall,) = record.constraints.values()
    error = f"{recall.test:.3f} ± {1.96 * recall.error:.3f}"
    affair, education = (record.tasks[task].metrics for task in ("affair", "education"))
    rows.append([name, recall.multiplier, recall.value, error, affair["accuracy"], affair["auroc"], education["r2"],
                 "kept" if recall.is_kept else "broken"])  # fmt: skip

print_table(
    ["model", "multiplier", "recall, validation", "recall, test", "accuracy", "auroc", "education r2", "bound"], rows
)
