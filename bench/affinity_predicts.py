"""How well each measure of affinity tells which pairs gain by being learned together.

For every pair of tasks of a table the networks of the pair and of each task alone are trained on all training rows and
tested on rows that no measure reads; the real gain of j with i is the difference in the share of the constant
prediction's test loss that is taken away, a mean over seeds. Printed is Spearman's rank correlation between what a
measure predicts and the real gain over all ordered pairs, and what the measure costs. `reliability` is the rank
correlation between the real gains of two seeds: where it is near zero, there is nothing to predict. Of school the
twelve largest schools are taken, and of every table the first ``--tasks`` targets.

    python bench/shared_tables.py --data FOLDER --out TABLES
    python bench/affinity_predicts.py --tables TABLES --sets oes10,school12,tox21
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from polytask.affinity.ground import Ground
from polytask.affinity.groups import gains_of
from polytask.affinity.measures import registry
from polytask.affinity.readings import grounds, read_all
from polytask.recipe import Recipe
from polytask.training.evaluation import constant_losses, mean_losses
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of
from polytask.training.preparation import Prepared
from polytask.training.run import Plan

SMALL = {"encoder": {"name": "mlp", "widths": [64, 64], "dropout": 0.2}}
SETS: dict[str, dict[str, Any]] = {
    "oes10": {"training": {"epochs": 60}, **SMALL},
    "school12": {"training": {"epochs": 60}, **SMALL},
    "tox21": {"training": {"epochs": 15, "batch_size": 256}, **SMALL},
    "adult": {"training": {"epochs": 8}, **SMALL},
    "jura": {"training": {"epochs": 60}, **SMALL},
    "planted": {"training": {"epochs": 60}, **SMALL},
}


def table_of(name: str, folder: Path) -> tuple[pd.DataFrame, list[str], dict[str, Any]]:
    """The table, its targets, and settings of the recipe."""
    if name == "planted":
        from polytask.data.generators import clustered_tasks

        made = clustered_tasks((3, 3, 2), 400, n_inputs=20, noise=1.0, seed=0)
        return made.frame, list(made.targets), {}
    if name == "school12":
        table = pd.read_csv(folder / "school.csv")
        schools = [column for column in table if column.startswith("school-")]
        largest = table[schools].notna().sum().sort_values(ascending=False).index[:12].tolist()
        kept = table[table[largest].notna().any(axis=1)]
        inputs = [column for column in table if column.startswith("input-")]
        return kept[inputs + largest].reset_index(drop=True), largest, {}
    table = pd.read_csv(folder / f"{name}.csv")
    if name == "adult":
        return (
            table.sample(6000, random_state=0),
            ["income", "never-married", "education-num"],
            {"drop": ["education", "marital-status"]},
        )
    if name == "tox21":
        targets = [column for column in table if not column.startswith("bit-")]
        return table, targets, {}
    targets = [column for column in table if column.startswith("target-")]
    return table, targets, {}


def real_gains(prepared: Prepared, plan: Plan, seed: int) -> np.ndarray:
    """``[T, T]``: what learning with i takes off the test loss of j, as a share of the constant prediction's."""
    ground = Ground(prepared, plan, seed)
    names = ground.names
    constant = constant_losses(prepared.tasks, prepared.test)

    def losses(group: list[str]) -> dict[str, float]:
        only = prepared.only(group)
        return mean_losses(ground.trained(group).model, only.tasks, only.test)

    alone = {name: losses([name])[name] for name in names}
    found = np.full((len(names), len(names)), np.nan)
    for i, j in combinations(range(len(names)), 2):
        pair = losses([names[i], names[j]])
        found[i, j] = (alone[names[j]] - pair[names[j]]) / constant[names[j]]
        found[j, i] = (alone[names[i]] - pair[names[i]]) / constant[names[i]]
    return found


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    off = ~np.eye(len(a), dtype=bool) & np.isfinite(a) & np.isfinite(b)
    if off.sum() < 3 or np.ptp(a[off]) == 0 or np.ptp(b[off]) == 0:
        return float("nan")
    return float(spearmanr(a[off], b[off]).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=Path("tables"))
    parser.add_argument("--sets", default="oes10,school12,tox21")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    for name in asked.sets.split(","):
        table, targets, settings = table_of(name, asked.tables)
        table, targets = table.drop(columns=targets[asked.tasks :]), targets[: asked.tasks]
        options = dict(SETS[name])
        recipe = Recipe(tasks=targets, data={"data": settings}, **options)
        prepared = prepare_recipe(recipe, table)
        plan = plan_of(recipe, prepared)
        began = time.process_time()
        real = [real_gains(prepared, plan, 100 + seed) for seed in range(asked.seeds)]
        mean = np.mean(real, 0)
        off = ~np.eye(len(targets), dtype=bool)
        reliability = rank_correlation(real[0], real[1]) if asked.seeds > 1 else float("nan")
        print(
            f"{name}: {len(table)} rows, {len(targets)} tasks; real gain {np.nanmean(mean[off]):+.4f} on average, "
            f"{np.nanmean(mean[off] > 0):.0%} of pairs above zero; reliability {reliability:+.2f} "
            f"({time.process_time() - began:.0f} CPU s)",
            flush=True,
        )
        for halves in (True, False):
            made = {m: registry.create(m) for m in registry.names()}
            same = {m: one for m, one in made.items() if one.halves == halves}
            began = time.process_time()
            found = read_all(same, grounds(prepared, plan, asked.seeds, 0, halves))
            for measure, one in found.items():
                print(
                    f"  {measure:<18} rank correlation {rank_correlation(gains_of(one), mean):+.2f}   "
                    f"forward {one.cost['forward']:8.0f}  backward {one.cost['backward']:8.0f}  "
                    f"trainings {one.cost['trainings']:4.0f}  structure p {one.structure.p}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
