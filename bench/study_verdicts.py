"""How often a study's verdict is wrong where there is nothing to find, and how often it finds what there is.

Every data set goes through the whole protocol: real trainings of the joint and the single networks on the same folds.

- ``unrelated``: two targets from different inputs; the tasks have nothing in common. Any verdict but "no evidence"
  counts as wrong, also if sharing the network truly costs a little.
- ``nothing shared``: the same with a joint network that shares no parameter (ratio 0), so that sharing neither helps
  nor hurts. The joint network still keeps one epoch for both tasks, where each single one keeps its own.
- ``planted``: four targets that are the same function of 40 inputs under heavy noise of their own, on 150, 300 or 600
  rows: the joint network sees four times the labels. The share of "helped" is the power. These trainings are longer:
  short ones have nothing to gain.
- ``fixed``: ``unrelated`` and ``nothing shared`` on one fixed split (30 % of the rows held out, three seeds), where the
  verdict comes from a bootstrap over test rows and seeds.
- ``scores``: made-up scores with the correlation of overlapping training sets, for many more repetitions.

    python bench/study_verdicts.py --sets 100 --jobs 2
    python bench/study_verdicts.py --family fixed --sets 100
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd

FAMILIES = ("scores", "folds", "unrelated", "nothing shared", "planted", "fixed")
ROWS, INPUTS, FOLDS, HOLDOUT = 160, 6, 5, 0.3
TRAINING = {"epochs": 12, "batch_size": 32, "learning_rate": 5e-3, "patience": 4}
NETWORK = {"encoder": {"name": "mlp", "widths": [16]}, "training": TRAINING}
LONG = {
    "encoder": {"name": "mlp", "widths": [8]},
    "training": {"epochs": 40, "batch_size": 64, "learning_rate": 1e-2, "patience": 8},
}
"""Longer trainings, so that what is planted is learned."""
PLANTED_INPUTS, PLANTED_TASKS, PLANTED_ROWS = 40, 4, (150, 300, 600)


def unrelated(seed: int) -> tuple[pd.DataFrame, dict]:
    rng = np.random.default_rng([1, seed])
    X = rng.normal(size=(ROWS, INPUTS))
    Y = np.stack([X[:, :3] @ rng.normal(size=3), X[:, 3:] @ rng.normal(size=3)], 1)
    return frame(X, Y / Y.std(0) + 0.7 * rng.normal(size=Y.shape)), {}


def nothing_shared(seed: int) -> tuple[pd.DataFrame, dict]:
    return unrelated(seed)[0], {"sharing": {"name": "hard", "ratio": 0.0}}


def planted(seed: int, n_rows: int) -> tuple[pd.DataFrame, dict]:
    rng = np.random.default_rng([2, seed])
    X = rng.normal(size=(n_rows, PLANTED_INPUTS))
    signal = X @ rng.normal(size=PLANTED_INPUTS)
    noise = rng.normal(size=(n_rows, PLANTED_TASKS))
    return frame(X, (signal / np.sqrt(PLANTED_INPUTS))[:, None] + noise), LONG


def frame(X: np.ndarray, Y: np.ndarray) -> pd.DataFrame:
    names = [f"x{i}" for i in range(X.shape[1])] + [f"y{t}" for t in range(Y.shape[1])]
    return pd.DataFrame(np.hstack([X, Y]), columns=names)


def run(job: tuple[str, int, int, float | None]) -> list[tuple[str, float, float]]:
    """Verdict, gain in percent and difference of the errors for each task of one data set."""
    import torch

    torch.set_num_threads(1)
    from polytask.study import Protocol, Study

    what, seed, n_rows, holdout = job
    made, options = (
        {"unrelated": unrelated, "nothing shared": nothing_shared}[what](seed)
        if what != "planted"
        else planted(seed, n_rows)
    )
    targets = [name for name in made if name.startswith("y")]
    protocol = Protocol(folds=0 if holdout else FOLDS, seed=seed, holdout=holdout)
    study = Study(made, targets, arms=["single", "joint"], protocol=protocol, **{**NETWORK, **options})
    record = study.run()
    return [
        (
            record.verdicts[t].verdict,
            record.verdicts[t].gain or 0.0,
            record.arms["single"].error[t].mean - record.arms["joint"].error[t].mean,
        )
        for t in targets
    ]


def report(title: str, found: list[list[tuple[str, float, float]]], seconds: float) -> None:
    flat = [entry for entries in found for entry in entries]
    counts = Counter(verdict for verdict, _, _ in flat)
    gains = np.array([gain for _, gain, _ in flat])
    any_wrong = np.mean([any(verdict != "no evidence" for verdict, _, _ in entries) for entries in found])
    differences = np.array([difference for _, _, difference in flat])
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    print(
        f"{title:<32} sets {len(found):>4}  tasks {len(flat):>4}  helped {counts['helped'] / len(flat):6.1%}  "
        f"hurt {counts['hurt'] / len(flat):6.1%}  sets with a verdict {any_wrong:6.1%}  "
        f"median gain {np.median(gains):+6.1f} %  "
        f"mean difference {differences.mean():+.4f} ± {1.96 * error:.4f}  ({seconds:.0f} s)",
        flush=True,
    )  # fmt: skip


def scores(sets: int) -> None:
    """Made-up scores: correlation between folds as of overlapping training sets."""
    from polytask.study.verdicts import Pairs, judge

    rng = np.random.default_rng(3)
    for n_folds, tasks in ((5, 2), (5, 12), (20, 12)):
        share = 0.25
        rho = share / (1 + share)
        for gain in (0.0, 0.5, 1.0, 2.0):
            wrong, right = 0, 0
            for _ in range(sets):
                pairs = {}
                for t in range(tasks):
                    d = (
                        np.sqrt(rho) * rng.normal()
                        + np.sqrt(1 - rho) * rng.normal(size=n_folds)
                        + (gain if t == 0 else 0)
                    )
                    base = rng.uniform(4, 6, n_folds)
                    pairs[f"y{t}"] = Pairs(base - d, base, share)
                found = judge(pairs, "joint", "single")
                wrong += any(v.verdict != "no evidence" for name, v in found.items() if name != "y0" or gain == 0)
                right += found["y0"].verdict == "helped"
            power = f"  power {right / sets:6.1%}" if gain else ""
            print(
                f"scores: {n_folds:>2} folds, {tasks:>2} tasks, gain {gain:.1f} sd of a fold: "
                f"sets with a wrong verdict {wrong / sets:6.1%}{power}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, nargs="*", default=None)
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--power-sets", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    families = asked.family or ["scores", "folds", "planted", "fixed"]
    if "scores" in families:
        scores(1000)
    runs = []
    for what in ("unrelated", "nothing shared"):
        runs += [(what, what, ROWS, None, asked.sets)] if {"folds", what} & {*families} else []
        runs += [(f"{what}, fixed split", what, ROWS, HOLDOUT, asked.sets)] if "fixed" in families else []
    for rows in PLANTED_ROWS:
        runs += [(f"planted, {rows} rows", "planted", rows, None, asked.power_sets)] if "planted" in families else []
    if "fixed" in families:
        runs += [("planted, 600 rows, fixed split", "planted", 600, HOLDOUT, asked.power_sets)]
    with ProcessPoolExecutor(asked.jobs) as pool:
        for title, what, rows, holdout, sets in runs:
            began = time.perf_counter()
            found = list(pool.map(run, [(what, seed, rows, holdout) for seed in range(sets)]))
            if found:
                report(title, found, time.perf_counter() - began)


if __name__ == "__main__":
    main()
