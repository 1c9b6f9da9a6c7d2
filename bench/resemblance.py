"""Which old task a new one should start from: the ridge measure of `extend` beside two measures of the room affinity.

A network learns some columns of a table. Each other column is a new task with labels on a few rows; each old task's
answers on them make a line to the new labels, and the line's share of the squared error that it takes away on all other
rows is what a start from that old task is worth. Measures see the few rows: `ridge` leaves each row out in turn;
`label_correlation` (on ranks) and `cka` have the old network's answers in place of labels and features, because the new
rows have no old labels, and the frozen representation is one for all old tasks. Printed are means over new tasks and
seeds: the worth that is missed by choosing by the measure, the rank correlation with the worth, and the mean distance
between the measure's value and the worth.

    python bench/resemblance.py --data FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata, spearmanr
from shared_tables import mulan
from sklearn.datasets import load_breast_cancer

from polytask import Recipe
from polytask.affinity.measures.cka import cka_matrix
from polytask.affinity.measures.label_correlation import correlation
from polytask.cli.terminal import print_table
from polytask.training.dividing import splitter_of
from polytask.training.evaluation import outputs_of
from polytask.training.known_data import known_data
from polytask.training.opening import make_tasks
from polytask.training.preparation import prepare
from polytask.training.starts import lines_from

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="folder with mulan_mtr/oes10.arff")
parser.add_argument("--seeds", type=int, default=1)
parser.add_argument("--rows", type=int, nargs="+", default=[10, 40])
arguments = parser.parse_args()
MEASURES = ("ridge", "label_correlation", "cka")


def cancer() -> tuple[pd.DataFrame, list[str], list[str]]:
    """Breast cancer: old tasks are numbers and classes (quarters of a column), so that answers have several columns."""
    table = load_breast_cancer(as_frame=True).frame
    table["target"] = table["target"].map({0: "yes", 1: "no"})
    numbers = ["mean texture", "mean smoothness", "mean symmetry"]
    classes = ["mean radius", "mean concavity"]
    for name in classes:
        table[name] = pd.qcut(table[name], 4, labels=["a", "b", "c", "d"]).astype(str)
    new = [
        "worst area",
        "worst texture",
        "worst smoothness",
        "worst concavity",
        "worst symmetry",
        "mean fractal dimension",
    ]
    inputs = [name for name in table if "error" in name]
    return table[[*inputs, *numbers, *classes, "target", *new]], [*numbers, *classes, "target"], new


def oes10() -> tuple[pd.DataFrame, list[str], list[str]]:
    """Numbers of employees by occupation: eight old tasks, six new ones."""
    table = mulan(arguments.data / "mulan_mtr", "oes10")
    names = [f"target-{i + 1}" for i in range(14)]
    return table.drop(columns=["target-15", "target-16"]), names[:8], names[8:]


def judged(table: pd.DataFrame, old: list[str], new: list[str], n_rows: int, seed: int) -> list[dict[str, np.ndarray]]:
    """For each new task, the worth of each old one, and what each measure says about it."""
    order = np.random.default_rng(seed).permutation(len(table))
    known, later = table.iloc[order[: len(table) // 2]], table.iloc[order[len(table) // 2 :]]
    training = {"epochs": 60, "patience": 10}
    asked = Recipe(tasks=old, encoder={"name": "mlp", "widths": [64, 64]}, training=training, seed=seed)
    bundle = asked.run(known.drop(columns=new)).bundle
    network, found = bundle.models[0], []
    for name in new:
        split = {"validation": 0.0, "test": 1 - n_rows / len(later)}
        recipe = Recipe(tasks={name: "regression"}, split=split, seed=seed)
        rows = later.drop(columns=[other for other in [*old, *new] if other != name])
        dataset, _ = known_data(bundle, network, bundle.sources[0], rows, recipe)
        (task,), _ = make_tasks(recipe, [dataset])
        prepared = prepare([dataset], [task], splitter_of(recipe.split, seed, [dataset], [task]))
        (few,), (rest,) = prepared.train.values(), prepared.test.values()
        lines = {line.task: line for line in lines_from(network.model, prepared.train, task, old)}
        answers, others = (outputs_of(network.model, source, old)[0] for source in (few, rest))
        y, truth = few.targets[name].double().reshape(-1, 1), rest.targets[name].double().reshape(-1, 1)
        said = {"ridge": [], "label_correlation": [], "cka": [], "worth": []}
        for other in old:
            z, line = answers[other].double(), lines[other]
            said["ridge"].append(line.resemblance)
            ranks = (rankdata(values.numpy(), axis=0) for values in (z, y))
            said["label_correlation"].append(abs(correlation(*ranks)))
            said["cka"].append(cka_matrix({"old": z, "new": y})[0, 1])
            missed = (others[other].double() @ line.slope.T + line.offset - truth).square().sum()
            said["worth"].append(1 - (missed / (truth - y.mean()).square().sum()).item())
        found.append({measure: np.array(values) for measure, values in said.items()})
    return found


torch.set_num_threads(1)
lines = []
for where in (oes10, cancer):
    table, old, new = where()
    for n_rows in arguments.rows:
        found = [one for seed in range(arguments.seeds) for one in judged(table, old, new, n_rows, seed)]
        for measure in MEASURES:
            regret = np.mean([one["worth"].max() - one["worth"][one[measure].argmax()] for one in found])
            ranks = np.mean([spearmanr(one[measure], one["worth"]).statistic for one in found])
            off = np.mean([np.abs(one[measure] - one["worth"].clip(-1)).mean() for one in found])
            lines.append([where.__name__, n_rows, measure, float(regret), float(ranks), float(off)])
print_table(["table", "rows", "measure", "worth missed", "rank correlation", "distance"], lines, "Starts of new tasks")
