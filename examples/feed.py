"""Feed: clicks, purchases and ratings from a log of impressions that is read from its Parquet file as training goes.

Users and items are identifiers with embeddings of their own; those that training does not know share embeddings by a
hash. Users and items of the log are made up, with tastes that clicks, purchases and ratings have in part in common; a
third of the users come in the last days only. Purchases are learned from clicked rows and ratings from bought ones
(`only_where`). The newest impressions are the test rows. How well the tasks rank the items of each user is told beside
their errors and their calibration, for joint and single models.

With --negatives 4 the log is one of choices only, as shops have it: what was not clicked is forgotten, and four items a
click are drawn that the user never clicked.

    python examples/feed.py [--rows 60000] [--sharing mmoe] [--balancer uncertainty] [--log my_log.parquet]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from polytask import Recipe
from polytask.cli.terminal import number, print_record, say
from polytask.data import sampled_negatives
from polytask.training.progress import Bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, default=60_000, help="impressions to make up")
parser.add_argument("--log", type=Path, help="Parquet file with the columns user, item, day, click, purchase, rating")
parser.add_argument("--negatives", type=int, default=0, help="items drawn a click, in place of what was not clicked")
parser.add_argument("--sharing", default="hard", help="see: polytask list sharing")
parser.add_argument("--balancer", default="equal", help="see: polytask list balancers")
parser.add_argument("--epochs", type=int, default=6)
arguments = parser.parse_args()


def _chance(score: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-score))


def made_up_log(path: Path, n: int, n_users: int = 300, n_items: int = 80, width: int = 2) -> None:
    """Impressions day by day; purchases of clicked items, ratings of those that were bought."""
    draw = np.random.default_rng(0)
    tastes, items = draw.normal(size=(n_users, width)), draw.normal(size=(n_items, width))
    wish = items + 0.5 * draw.normal(size=items.shape)  # what is bought is much like what is clicked, not the same
    lure, eager = 0.7 * draw.normal(size=n_items), 0.5 * draw.normal(size=n_users)
    day = np.sort(draw.integers(0, 30, n))
    user = np.where(day < 24, draw.integers(0, n_users * 2 // 3, n), draw.integers(0, n_users, n))
    item = draw.integers(0, n_items, n)
    click = draw.random(n) < _chance((tastes[user] * items[item]).sum(1) + lure[item] + eager[user] - 1)
    like = (tastes[user] * wish[item]).sum(1) + lure[item]
    buy = click & (draw.random(n) < _chance(like - 0.8))
    stars = np.clip(np.round(3 + 0.6 * like + 0.5 * draw.normal(size=n)), 1, 5)
    ids = {"user": [f"user-{u}" for u in user], "item": [f"item-{i}" for i in item]}
    labels = {"click": click, "purchase": buy, "rating": np.where(buy, stars, np.nan)}
    age = (40 + 9 * tastes[user, 0] + 5 * draw.normal(size=n)).round()
    frame = pd.DataFrame({**ids, "day": day, "age": age, **labels})
    if arguments.negatives:
        clicked = frame[frame["click"]]
        drawn = sampled_negatives(clicked, "user", "item", per_row=arguments.negatives)
        drawn = drawn.assign(click=False, purchase=False, rating=np.nan)
        frame = pd.concat([clicked, drawn]).sort_values("day", kind="stable")
    frame.to_parquet(path, row_group_size=max(n // 30, 1), index=False)


with tempfile.TemporaryDirectory() as folder:
    log = arguments.log or Path(folder) / "log.parquet"
    if not arguments.log:
        made_up_log(log, arguments.rows)
        say(f"The log is made up: {arguments.rows:,} impressions, {log.stat().st_size / 2**20:.1f} MiB.")
    recipe = Recipe(
        tasks={
            "click": {"kind": "binary", "ranked_by": "user"},
            "purchase": {"kind": "binary", "ranked_by": "user", "only_where": {"click": True}},
            "rating": {"kind": "regression", "ranked_by": "user", "only_where": {"purchase": True}},
        },
        data={"log": {"path": str(log), "streamed": True, "kinds": {"user": "hashed", "item": "hashed"}}},
        encoder={"name": "tabular", "width": 64, "n_blocks": 1},
        sharing=arguments.sharing,
        balancer=arguments.balancer,
        split={"method": "time", "column": "day"},
        training={"epochs": arguments.epochs, "batch_size": 256, "learning_rate": 2e-3, "weight_decay": 1e-4},
    )
    run = recipe.run(compare=True, progress=Bar())
    print_record(run.record)
    asked = {"click": ("group_auroc", "ndcg_10", "calibration_error"), "purchase": ("group_auroc",)}
    for name, metrics in asked.items():
        found = run.record.tasks[name]
        for metric in metrics:
            single = (found.single or {}).get(metric)
            say(f"{name} {metric}: joint {number(found.metrics[metric])}, single {number(single)}")
