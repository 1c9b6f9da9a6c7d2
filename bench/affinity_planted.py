"""Are planted groups found, down to which signal-to-noise ratio, and is it said when there are none?

Linear regressions in clusters of 3, 3 and 3 tasks and an outcast that is related to none (correlation of two
noise-free targets of a cluster 0.9, of different clusters 0), under noise of their own: the ratio is that of the
variances of signal and noise. Printed for each measure and ratio: how often four groups are exactly the planted ones,
the adjusted Rand index of the served sets, and how often the test says that there is structure. The last line of each
measure is the same with ten unrelated tasks, where every finding of structure is a wrong one.

    python bench/affinity_planted.py --sets 10
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import adjusted_rand_score

from polytask.affinity.grouping import GroupBudget, group_tasks
from polytask.affinity.groups import gains_of
from polytask.affinity.measures import registry
from polytask.affinity.readings import grounds, read_all
from polytask.data.generators import clustered_tasks
from polytask.recipe import Recipe
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of

SIZES = (3, 3, 3, 1)
NETWORK = {
    "encoder": {"name": "mlp", "widths": [64, 64], "dropout": 0.1},
    "training": {"epochs": 15, "batch_size": 64, "learning_rate": 3e-3},
}


def one(measures: list[str], sizes: tuple[int, ...], ratio: float, missing: float, rows: int, seed: int):
    made = clustered_tasks(
        sizes,
        rows,
        n_inputs=24,
        relatedness=0.9 if max(sizes) > 1 else 0.0,
        noise=ratio**-0.5,
        missing=missing,
        seed=seed,
    )
    recipe = Recipe(tasks=list(made.targets), seed=seed, **NETWORK)
    prepared = prepare_recipe(recipe, made.frame)
    on = grounds(prepared, plan_of(recipe, prepared), 2, seed)
    found = read_all({name: registry.create(name) for name in measures}, on, seed)
    results = {}
    for name, result in found.items():
        groups = group_tasks(gains_of(result), list(made.targets), GroupBudget(models=len(SIZES)))
        label = {task: k for k, serves in enumerate(groups.serves) for task in serves}
        score = adjusted_rand_score(made.truth["clusters"], [label[task] for task in made.targets])
        results[name] = (score, result.structure.is_found)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--missing", type=float, default=0.3)
    parser.add_argument("--measures", default="label_correlation,gradient_cosine,lookahead,cka")
    parser.add_argument("--ratios", default="10,1,0.3,0.1")
    asked = parser.parse_args()
    measures = asked.measures.split(",")
    began = time.process_time()
    for ratio in map(float, asked.ratios.split(",")):
        report(f"signal/noise {ratio:g}", measures, SIZES, ratio, asked)
    report("no structure", measures, (1,) * 10, 1.0, asked)
    print(f"{time.process_time() - began:.0f} CPU s")


def report(title: str, measures: list[str], sizes: tuple[int, ...], ratio: float, asked: argparse.Namespace) -> None:
    found = [one(measures, sizes, ratio, asked.missing, asked.rows, seed) for seed in range(asked.sets)]
    for name in measures:
        scores = np.array([results[name][0] for results in found])
        said = np.mean([results[name][1] for results in found])
        found_it = f"planted groups found {np.mean(scores == 1.0):4.0%}  adjusted Rand {scores.mean():5.2f}"
        shown = found_it if max(sizes) > 1 else " " * len(found_it)
        print(f"{title:<18} {name:<18} {shown}  structure said {said:4.0%}", flush=True)


if __name__ == "__main__":
    main()
