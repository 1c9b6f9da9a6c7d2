"""Adding a task to a trained model: cancer data, with a further target that comes later, for a few patients only.

A model of the breast cancer data learns two tasks. Later a third target comes up: the mean radius of the tumour,
measured for a few patients. Its head is added to the trained network, once frozen (the old tasks answer as before, bit
for bit, and this is checked) and once trained on with a remedy against forgetting (what changes is measured on rows
kept apart):

    polytask extend runs/first --data new.csv --targets radius --out runs/second
"""

import argparse
import tempfile
from pathlib import Path

from sklearn.datasets import load_breast_cancer

from polytask import Recipe, extend
from polytask.cli.terminal import print_record, say

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--rows", type=int, default=60, help="patients with the new label")
arguments = parser.parse_args()

table = load_breast_cancer(as_frame=True).frame
table["malignant"] = table.pop("target").map({0: "yes", 1: "no"})
# The targets are taken from the measurements; what is nearly a copy of them (areas, perimeters) is no input.
table = table.drop(columns=[name for name in table if "area" in name or "perimeter" in name or name == "worst radius"])
table = table.rename(columns={"mean radius": "radius", "mean texture": "texture"}).drop(columns="worst texture")
first, later = table.drop(columns="radius").iloc[:450], table.iloc[450:][: arguments.rows]

with tempfile.TemporaryDirectory() as folder:
    place = Path(folder)
    first.to_csv(place / "first.csv", index=False)
    training = {"epochs": arguments.epochs, "patience": 10}
    recipe = Recipe(tasks=["malignant", "texture"], data=str(place / "first.csv"), training=training)
    run = recipe.run(out=place / "run")
    print_record(run.record)

    say(f"\nA third task, with {len(later)} labels, on the frozen network:")
    new = later.drop(columns=["malignant", "texture"])
    frozen = extend(place / "run", new, ["radius"], out=place / "frozen", training=training)
    print_record(frozen.record)

    say("\nThe same, and the network is trained on, held by distillation:")
    remedies = ["learning_without_forgetting"]
    open_ = extend(place / "run", new, ["radius"], unfreeze=True, remedies=remedies, training=training)
    print_record(open_.record)

    same = all((run.predict(new)[name].values == frozen.predict(new)[name].values).all() for name in run.predict(new))
    say(f"Answers of the old tasks to the new rows are equal: {same}.")
