"""Constraints: a model that must find three in four of the cases, whatever that costs the other answers.

From a survey of 6,366 married women (Fair 1978, as shipped in statsmodels): whether there was an affair (a third of
them), and the years of education. A model that is free to choose finds few of the affairs, because saying "no" is
right more often. Three models of one network: free, with the bound on recall, and with a margin of 1.64 standard
errors of the validation rows, which makes up for the noise of the choice. The multiplier tells how hard the bound
pulls: 0 where it would be kept without it.

Beside them the cheap way, without a further training: the free model's chances, and "yes" from a lower threshold on,
the highest that keeps the bound (or the bound and its margin) on the validation rows.

    python examples/constrained.py

The same on the command line, with exit status 3 if the bound is not kept:

    polytask fit marriage.csv --targets affair,education --constraint "affair.recall>=0.75"
"""

import argparse
import math

import numpy as np

from polytask import Recipe
from polytask.cli.terminal import print_table
from polytask.data import holdout, load_bundled
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--recall", type=float, default=0.75, help="what the second and the third model must reach")
parser.add_argument("--multipliers", default="augmented_lagrangian", help="see: polytask list multipliers")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

table = load_bundled("marriage")
labels = {name: table.frame[name].to_numpy() for name in ("affair", "education")}
rows_of = holdout(len(table.frame), validation=0.15, test=0.2, seed=arguments.seed, labels=labels)
frame = table.frame.assign(part="train")
for part in ("validation", "test"):
    frame.iloc[getattr(rows_of, part), frame.columns.get_loc("part")] = part

bound = {"task": "affair", "metric": "recall", "at_least": arguments.recall}
ways = {
    "free": {**bound, "at_least": 0.0},  # a bound that every model keeps, so that its recall is reported
    "bound": bound,
    "bound with a margin": {**bound, "margin": "auto"},
}
rows = []
runs = {}
for name, constraint in ways.items():
    recipe = Recipe(
        tasks={"affair": "binary", "education": "regression"},
        data={"marriage": {"inputs": list(table.inputs)}},
        encoder={"name": "tabular", "width": 64},
        constraints=[constraint],
        multipliers=arguments.multipliers,
        split={"method": "given", "column": "part"},
        training={"epochs": arguments.epochs, "batch_size": 128, "learning_rate": 1e-3, "stop_rule": "mean"},
        seed=arguments.seed,
    )
    runs[name] = recipe.run({"marriage": frame}, progress=Bar())
    record = runs[name].record
    (recall,) = record.constraints.values()
    error = f"{recall.test:.3f} ± {1.96 * recall.error:.3f}"
    affair, education = (record.tasks[task].metrics for task in ("affair", "education"))
    rows.append([name, recall.multiplier, recall.value, error, affair["accuracy"], affair["auroc"], education["r2"],
                 "kept" if recall.is_kept else "broken"])  # fmt: skip


def found_by(part: str) -> tuple[np.ndarray, np.ndarray]:
    """The free model's chances of an affair for the rows of a part, and whether there was one."""
    mine = frame[frame["part"] == part]
    answer = runs["free"].predict(mine)["affair"]
    yes = np.asarray(answer.probabilities)[:, list(answer.labels).index(1)]
    return yes, mine["affair"].to_numpy() == 1


def lowered(name: str, goal: float) -> list[object]:
    """A row of the table for the free model with another threshold."""
    chances, truth = found_by("validation")
    cases = np.sort(chances[truth])[::-1]
    threshold = cases[math.ceil(goal * len(cases)) - 1]
    on_validation = np.mean(cases >= threshold)
    chances, truth = found_by("test")
    said = chances >= threshold
    recall = said[truth].mean()
    error = math.sqrt(recall * (1 - recall) / truth.sum())
    _, _, _, _, _, auroc, education, _ = rows[0]  # no threshold changes these
    is_kept = "kept" if on_validation >= arguments.recall else "broken"
    right = float((said == truth).mean())
    return [name, None, float(on_validation), f"{recall:.3f} ± {1.96 * error:.3f}", right, auroc, education, is_kept]


goal, cases = arguments.recall, found_by("validation")[1].sum()
rows.append(lowered("free, threshold", goal))
margin = 1.64 * math.sqrt(goal * (1 - goal) / cases)
rows.append(lowered("free, threshold, margin", min(1.0, goal + margin)))
print_table(
    ["model", "multiplier", "recall, validation", "recall, test", "accuracy", "auroc", "education r2", "bound"], rows
)
