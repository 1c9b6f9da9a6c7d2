"""Recommender: click, purchase and rating from one table of impressions, and what ESMM's product is good for.

Impressions are made up, so that the true chance that an impression would convert is known for every row, clicked or
not. Compared are three estimates of that chance on rows apart:

    alone   conversion learned by itself from clicked rows, the only ones with that label
    joint   the same beside click, with a common trunk
    esmm    click and purchase learned from all rows, P(purchase) = P(click) P(conversion | click)

ESMM is made for logs in which clicked rows differ from the others in ways that the inputs do not show. These clicks
depend on the inputs alone, so that learning from the clicked rows is right too, and ahead of ESMM here. The rating (of
bought items only) shares the trunk of the last two and stands outside the chain.

    python examples/recommender.py [--rows 40000] [--click-rate 0.03] [--epochs 10]
"""

import argparse

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from polytask import Recipe
from polytask.data.generators import impressions
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, default=40_000)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--click-rate", type=float, default=0.03)
arguments = parser.parse_args()

made = impressions(arguments.rows, click_rate=arguments.click_rate, conversion_rate=0.2, relatedness=0.7, seed=0)
table = made.frame.copy()
draw = np.random.default_rng(1)
taste = table[list(made.inputs)].to_numpy() @ draw.standard_normal(len(made.inputs))
stars = np.clip(np.round(3 + taste / 2 + 0.5 * draw.standard_normal(len(table))), 1, 5)
table["rating"] = np.where(table["purchase"] == 1, stars, np.nan)
half = len(table) // 2
known, apart = table.iloc[:half], table.iloc[half:]
print(f"{half:,} impressions: {known['click'].mean():.1%} clicked, {known['purchase'].mean():.1%} bought and rated")

SAME = {"inputs": list(made.inputs)}
TRAINING = {"epochs": arguments.epochs, "learning_rate": 1e-3}


def recipe(tasks: dict[str, str], sharing: dict) -> Recipe:
    return Recipe(tasks=tasks, data={"impressions": SAME}, sharing=sharing, training=TRAINING)


alone = recipe({"conversion": "binary"}, {"name": "hard"})
joint = recipe({"click": "binary", "conversion": "binary", "rating": "regression"}, {"name": "hard"})
esmm = recipe(
    {"click": "binary", "purchase": "binary", "rating": "regression"},
    {"name": "esmm", "chain": ["click", "purchase"]},
)
runs = {
    name: each.run({"impressions": known}, progress=Bar())
    for name, each in (("alone", alone), ("joint", joint), ("esmm", esmm))
}


def chance(run: object, task: str) -> np.ndarray:
    """The probability of the task's event for the rows apart."""
    return run.predict(apart)[task].probabilities[:, 1]


click, purchase = chance(runs["esmm"], "click"), chance(runs["esmm"], "purchase")
assert (purchase <= click).all(), "a purchase is never likelier than its click"
estimates = {name: chance(runs[name], "conversion") for name in ("alone", "joint")} | {"esmm": purchase / click}
truth = made.truth["conversion_chance"][half:]
would = made.truth["would_convert"][half:]
print(
    pd.DataFrame(
        {
            "mean chance": {name: p.mean() for name, p in estimates.items()},
            "true mean": dict.fromkeys(estimates, truth.mean()),
            "mean error": {name: np.abs(p - truth).mean() for name, p in estimates.items()},
            "auroc, all rows": {name: roc_auc_score(would, p) for name, p in estimates.items()},
        }
    ).round(4)
)
bought = apart["rating"].notna()
for name in ("joint", "esmm"):
    error = np.abs(runs[name].predict(apart[bought])["rating"].values - apart.loc[bought, "rating"]).mean()
    print(f"{name}: mean absolute error of the rating {error:.3f} stars")
