"""What should stand for a missing label while a joint forest seeks its splits, and what should its leaves say?

Every way is an extra-trees forest of the same size on the same rows; labels are removed at random from the training
rows; the score is the share of variance explained (R², Brier skill) on held-out rows with all labels, a mean over
tasks and repeats.

    plain     missing labels at their task's mean, and scikit-learn's own leaf values (stand-ins count as labels)
    mean      missing labels at their task's mean, leaves speak by observed labels only
    oob       one round of calibrated out-of-bag stand-ins, leaves by observed labels only (the default)
    oob3      three rounds
    complete  only the rows with every label, where there are 20 or more
    separate  one forest for each task on the rows with its label
    +cv       leaf size chosen by out-of-bag score (with --tune)
    catboost  300 boosted trees with a loss over observed labels, regressions only (with --catboost, if installed)

    python bench/trees_missing.py [--data FOLDER] [--repeats 3] [--leaf 1] [--tune] [--catboost]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import arff
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.ensemble import ExtraTreesRegressor

from polytask.trees import CatBoost, JointForest, JointForestCV
from polytask.trees.columns import read_columns
from polytask.trees.growing import Labelled, Plan, grow
from polytask.trees.targets import explained, learn_code

N_TREES = 60
MISSING = (0.1, 0.5, 0.9)
ARFF_TARGETS = {"enb": 2, "jura": 3, "oes10": 16, "sf2": 3}
Table = tuple[np.ndarray, np.ndarray, list[str]]


def generated(n: int, n_tasks: int, rank: int, seed: int, noise: float) -> Table:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 10))
    common = np.column_stack([np.sin(1.5 * X[:, i]) + 0.7 * X[:, i + 1] * X[:, i + 2] for i in range(rank)])
    Y = common @ rng.normal(size=(rank, n_tasks))
    return X, Y / Y.std(axis=0) + noise * rng.normal(size=Y.shape), ["regression"] * n_tasks


def mixed(seed: int) -> Table:
    X, Y, kinds = generated(800, 4, 2, seed, 0.5)
    Y[:, 2] = Y[:, 2] > 0
    Y[:, 3] = np.digitize(Y[:, 3], [-0.7, 0.7])
    return X, Y, [*kinds[:2], "binary", "multiclass"]


def bundled() -> dict[str, Table]:
    wine, iris, diabetes = load_wine(), load_iris(), load_diabetes()
    return {
        "rank 2 of 8": generated(800, 8, 2, 0, 0.3),
        "unrelated 6": generated(800, 6, 6, 1, 0.3),
        "noisy 10": generated(600, 10, 2, 2, 1.0),
        "mixed kinds": mixed(3),
        "wine": (wine.data[:, :7], np.c_[wine.data[:, 7:], wine.target], ["regression"] * 6 + ["multiclass"]),
        "iris": (iris.data[:, :2], np.c_[iris.data[:, 2:], iris.target], ["regression"] * 2 + ["multiclass"]),
        "diabetes": (
            diabetes.data[:, [0, 1, 4, 5, 6, 7, 8]],
            np.c_[diabetes.target, diabetes.data[:, [2, 3, 9]]],
            ["regression"] * 4,
        ),
    }


def from_folder(folder: Path) -> dict[str, Table]:
    tables = {}
    for name, n_tasks in ARFF_TARGETS.items():
        records, meta = arff.loadarff(str(folder / "mulan_mtr" / f"{name}.arff"))
        columns = [records[column] for column in meta.names()]
        numbers = np.column_stack(
            [c.astype(float) if c.dtype.kind == "f" else np.unique(c, return_inverse=True)[1] for c in columns]
        )
        tables[name] = (numbers[:, :-n_tasks], numbers[:, -n_tasks:], ["regression"] * n_tasks)
    return tables


def joint(missing: str, leaf: int) -> Callable[..., np.ndarray]:
    def way(X: np.ndarray, Y: np.ndarray, kinds: list[str], X2: np.ndarray, Y2: np.ndarray, seed: int) -> np.ndarray:
        options: dict[str, Any] = {"n_estimators": N_TREES, "min_samples_leaf": leaf, "random_state": seed}
        return JointForest(kinds, missing=missing, **options).fit(X, Y).task_scores(X2, Y2)

    return way


def internal(rounds: int, leaf: int) -> Callable[..., np.ndarray]:
    """Plain scikit-learn on filled targets (no round), or several rounds of stand-ins."""

    def way(X: np.ndarray, Y: np.ndarray, kinds: list[str], X2: np.ndarray, Y2: np.ndarray, seed: int) -> np.ndarray:
        used = ~np.isnan(Y).all(axis=1)
        columns = read_columns(Y[used])
        code = learn_code(columns, kinds, np.ones(used.sum()))
        outputs, inputs = code.encode(columns), X[used].astype(np.float32)
        options = {"n_estimators": N_TREES, "min_samples_leaf": leaf, "bootstrap": True, "random_state": seed}
        if rounds == 0:
            forest = ExtraTreesRegressor(**options).fit(inputs, np.nan_to_num(outputs))
        else:
            rows = Labelled(inputs, outputs, code.owner, np.ones(len(code.owner)), None)
            forest = grow(Plan("random", "oob", options, rounds), rows).forest
        return explained(code.encode(read_columns(Y2)), forest.predict(X2), code.owner, np.ones(len(X2)))

    return way


def complete(leaf: int) -> Callable[..., np.ndarray]:
    def way(X: np.ndarray, Y: np.ndarray, kinds: list[str], X2: np.ndarray, Y2: np.ndarray, seed: int) -> np.ndarray:
        full = ~np.isnan(Y).any(axis=1)
        if full.sum() < 20:
            return np.full(Y.shape[1], np.nan)
        return joint("mean", leaf)(X[full], Y[full], kinds, X2, Y2, seed)

    return way


def separate(leaf: int | None) -> Callable[..., np.ndarray]:
    def way(X: np.ndarray, Y: np.ndarray, kinds: list[str], X2: np.ndarray, Y2: np.ndarray, seed: int) -> np.ndarray:
        one = tuned() if leaf is None else joint("mean", leaf)
        return np.concatenate([one(X, Y[:, [t]], [kinds[t]], X2, Y2[:, [t]], seed) for t in range(Y.shape[1])])

    return way


def tuned() -> Callable[..., np.ndarray]:
    def way(X: np.ndarray, Y: np.ndarray, kinds: list[str], X2: np.ndarray, Y2: np.ndarray, seed: int) -> np.ndarray:
        search = JointForestCV(
            kinds, n_estimators=N_TREES, leaves=(1, 2, 5, 10), features=(1.0,), splits=("random",), random_state=seed
        )
        return search.fit(X, Y).best_forest_.task_scores(X2, Y2)

    return way


def boosted(X: np.ndarray, Y: np.ndarray, kinds: list[str], X2: np.ndarray, Y2: np.ndarray, seed: int) -> np.ndarray:
    if set(kinds) != {"regression"}:
        return np.full(len(kinds), np.nan)
    return CatBoost(n_estimators=300, n_jobs=1, random_state=seed).fit(X, Y).task_scores(X2, Y2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with mulan_mtr/{enb,jura,oes10,sf2}.arff")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--leaf", type=int, default=1)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--catboost", action="store_true")
    given = parser.parse_args()
    ways = {
        "plain": internal(0, given.leaf),
        "mean": joint("mean", given.leaf),
        "oob": joint("oob", given.leaf),
        "oob3": internal(3, given.leaf),
        "complete": complete(given.leaf),
        "separate": separate(given.leaf),
    }
    if given.tune:
        ways = {"oob": ways["oob"], "oob+cv": tuned(), "separate": ways["separate"], "separate+cv": separate(None)}
    if given.catboost:
        ways = {"oob": ways["oob"], "separate": ways["separate"], "catboost": boosted}
    tables = {**bundled(), **(from_folder(given.data) if given.data else {})}
    print(f"{'data':<12} missing " + " ".join(f"{name:>11}" for name in ways))
    seconds = dict.fromkeys(ways, 0.0)
    everything: dict[float, list[list[float]]] = {missing: [] for missing in MISSING}
    for name, (X, Y, kinds) in tables.items():
        for missing in MISSING:
            means = []
            for label, way in ways.items():
                start = time.perf_counter()
                means.append(float(np.mean([one(way, X, Y, kinds, missing, seed) for seed in range(given.repeats)])))
                seconds[label] += time.perf_counter() - start
            everything[missing].append(means)
            print(f"{name:<12} {missing:7.0%} " + " ".join(f"{mean:11.3f}" for mean in means), flush=True)
    for missing, rows in everything.items():
        # A task that nothing predicts can score far below 0 and would drown the rest.
        print(f"{'mean':<12} {missing:7.0%} " + " ".join(f"{m:11.3f}" for m in np.maximum(rows, 0).mean(axis=0)))
    print(f"{'seconds':<20} " + " ".join(f"{seconds[label]:11.1f}" for label in ways))


def is_usable(train: np.ndarray, test: np.ndarray, kind: str) -> bool:
    """Whether a task can be trained and scored: its labels vary, and every class to be met was seen."""
    seen = np.unique(train[~np.isnan(train)])
    return len(seen) > 1 and bool(np.ptp(test) > 0) and (kind == "regression" or bool(np.isin(test, seen).all()))


def one(
    way: Callable[..., np.ndarray], X: np.ndarray, Y: np.ndarray, kinds: list[str], missing: float, seed: int
) -> float:
    """Score of one way on one random split."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    train, test = np.split(order, [int(0.7 * len(X))])
    hidden = Y[train].copy()
    hidden[rng.random(hidden.shape) < missing] = np.nan
    kept = [task for task, kind in enumerate(kinds) if is_usable(hidden[:, task], Y[test, task], kind)]
    scores = way(X[train], hidden[:, kept], [kinds[t] for t in kept], X[test], Y[test][:, kept], seed)
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
