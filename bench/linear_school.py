"""Linear multi-task models on the school data: explained variance and time, for all models.

The data are exam scores of 15362 pupils in 139 schools, a task per school (``school.mat`` with cells ``X`` [n_t, 28]
and ``Y``). The rows of every school are split at random; strengths are chosen by five-fold cross-validation on the
training rows alone. Explained variance is that of Bakker and Heskes (JMLR 2003) and Argyriou, Evgeniou and Pontil
(2008): one minus the squared error summed over all test pupils of all schools, divided by the squared deviation of
their scores from their common mean. (It counts differences between schools as variance to explain; the mean of R²
within schools is a lower number.)

The rival is a plain loop of scikit-learn's ``RidgeCV``, one per school, over as many strengths and folds; its second
row is the same loop with the closed form for leave-one-out, which is the faster way to write it. Seconds are wall time
of one fit with its cross-validation, the median over the splits.

    python bench/linear_school.py --data FOLDER [--models trace_norm l21] [--intercepts own] [--splits 5] [--no-loop]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

import polytask.linear
from polytask.linear import registry

Tables = list[np.ndarray]
Split = tuple[Tables, Tables, Tables, Tables]
STRENGTHS = np.geomspace(1e4, 1e-3, 30)


def split(X: Tables, Y: Tables, fraction: float, seed: int) -> Split:
    """Training inputs and labels, test inputs and labels: the same share of every school."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(y)) for y in Y]
    cuts = [max(2, round(fraction * len(y))) for y in Y]
    train = [order[:cut] for order, cut in zip(orders, cuts, strict=True)]
    test = [order[cut:] for order, cut in zip(orders, cuts, strict=True)]
    return tuple([a[i] for a, i in zip(tables, rows, strict=True)] for rows in (train, test) for tables in (X, Y))


def explained_variance(Y: Tables, predictions: Tables) -> float:
    y, p = np.concatenate(Y), np.concatenate(predictions)
    return float(1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def ridge_loop(X: Tables, Y: Tables, X_test: Tables, *, folds: bool) -> Tables:
    """One RidgeCV per school, with five folds (fewer where there are fewer rows) or leave-one-out."""
    spreads = np.sqrt(np.mean(np.concatenate([x - x.mean(0) for x in X]) ** 2, axis=0))
    spreads[spreads == 0] = 1.0
    predictions = []
    for x, y, x_test in zip(X, Y, X_test, strict=True):
        model = RidgeCV(STRENGTHS, cv=KFold(min(5, len(y))) if folds else None, scoring="neg_mean_squared_error")
        predictions.append(model.fit(x / spreads, y).predict(x_test / spreads))
    return predictions


def contestants(
    names: list[str], intercepts: list[str], jobs: int, loop: bool
) -> Iterator[tuple[str, Callable[[Tables, Tables, Tables], Tables]]]:
    if loop:
        yield "scikit-learn RidgeCV loop, 5 folds", lambda X, Y, X_test: ridge_loop(X, Y, X_test, folds=True)
        yield "scikit-learn RidgeCV loop, leave-one-out", lambda X, Y, X_test: ridge_loop(X, Y, X_test, folds=False)
    for name in names:
        model_class = getattr(polytask.linear, f"{registry.load(name).__name__}CV")
        for intercept in intercepts:
            model = model_class(intercept=intercept, scale="inputs", n_jobs=jobs)
            yield f"{name}, intercept {intercept}", lambda X, Y, X_test, model=model: model.fit(X, Y).predict(X_test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds school.mat")
    parser.add_argument("--models", nargs="*", default=registry.names(), help="names of linear models")
    parser.add_argument("--intercepts", nargs="*", default=["own", "joint"], choices=["own", "joint"])
    parser.add_argument("--no-loop", action="store_true", help="leave out the loops of scikit-learn ridges")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--rows", type=float, nargs="*", default=[0.6, 0.1], help="shares of rows to train on")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    cells = loadmat(arguments.data / "school.mat")
    X = [np.asarray(x, dtype=float) for x in cells["X"][0]]
    Y = [np.asarray(y, dtype=float).ravel() for y in cells["Y"][0]]
    for fraction in arguments.rows:
        print(f"\n{len(X)} schools, {fraction:.0%} of rows for training, {arguments.splits} splits")
        print(f"{'':42s} {'explained variance':>20s} {'seconds':>9s} {'loop / this':>12s}")
        loop_seconds = None
        entrants = contestants(arguments.models, arguments.intercepts, arguments.jobs, not arguments.no_loop)
        for label, predict in entrants:
            scores, seconds = [], []
            for seed in range(arguments.splits):
                X_train, Y_train, X_test, Y_test = split(X, Y, fraction, seed)
                begun = time.perf_counter()
                predictions = predict(X_train, Y_train, X_test)
                seconds.append(time.perf_counter() - begun)
                scores.append(explained_variance(Y_test, predictions))
            taken = float(np.median(seconds))
            loop_seconds = taken if loop_seconds is None and not arguments.no_loop else loop_seconds
            ratio = f"{loop_seconds / taken:.1f}x" if loop_seconds else ""
            spread = f"{np.mean(scores):.4f} ± {np.std(scores):.4f}"
            print(f"{label:42s} {spread:>20s} {taken:9.2f} {ratio:>12s}", flush=True)


if __name__ == "__main__":
    main()
