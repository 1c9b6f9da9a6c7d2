"""Time of every method's solver on the Gramian alone: ``python bench/solvers.py [--tasks 2 10 40 100]``.

One thread; the median over fresh Gramians, first cold and then with the state of the step before. Two kinds: gradients
in general position, and gradients in strong conflict. cvxpy beside the bargain, if installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time

import numpy as np
import torch

from polytask.balancing import Signals, registry

BARS = {"nash_mtl": 0.5, "fairgrad": 1.0, "cagrad": 2.0, "upgrad": 2.0, "pcgrad": 1.0}
"""Milliseconds at 40 tasks that the method shall not exceed."""


def gramian(n_tasks: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    rows = rng.standard_normal((n_tasks, 40 * n_tasks))
    if kind == "conflict":
        rows -= 0.9 * rows.mean(axis=0) + 0.4 * rng.permutation(rows)
    return rows @ rows.T


def measure(name: str, n_tasks: int, kind: str, repeats: int) -> tuple[float, float, int]:
    """Median milliseconds cold and warm, and how many steps fell back."""
    rng = np.random.default_rng(0)
    names = [f"task{i}" for i in range(n_tasks)]
    cold, warm, fallbacks = [], [], 0
    base = gramian(n_tasks, kind, rng)
    for _ in range(repeats):
        noise = gramian(n_tasks, kind, rng)
        first, second = (Signals.of(np.ones(n_tasks), gramian=base + share * noise) for share in (0.05, 0.06))
        balancer = registry.create(name)
        balancer.bind(names)
        for signals, times in ((first, cold), (second, warm)):
            start = time.perf_counter()
            balancer(signals)
            times.append(1e3 * (time.perf_counter() - start))
        fallbacks += len(balancer.fallbacks)
    return statistics.median(cold), statistics.median(warm), fallbacks


def cvxpy_bargain(n_tasks: int, kind: str) -> float:
    """Median milliseconds of the bargain's convex program, compiled once."""
    import cvxpy as cp

    factor = np.linalg.cholesky(gramian(n_tasks, kind, np.random.default_rng(0))).T
    w, r = cp.Variable(n_tasks), cp.Parameter((n_tasks, n_tasks))
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(r @ w) - cp.sum(cp.log(w))))
    times = []
    for _ in range(5):
        r.value = factor / np.abs(factor).max()
        start = time.perf_counter()
        problem.solve(cp.CLARABEL)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 10, 40, 100])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = [n for n in registry.names() if registry.load(n)().needs <= {"losses", "gramian"}]
    methods = [n for n in methods if "gramian" in registry.load(n)().needs]
    print(f"{'method':14}{'kind':10}" + "".join(f"{f'T={n}':>16}" for n in options.tasks) + "   bar at T=40")
    for name in methods:
        for kind in ("general", "conflict"):
            cells = []
            for n_tasks in options.tasks:
                cold, warm, fallbacks = measure(name, n_tasks, kind, options.repeats)
                cells.append(f"{cold:7.2f}/{warm:5.2f}{'!' if fallbacks else ' '}")
            print(f"{name:14}{kind:10}" + "".join(f"{cell:>16}" for cell in cells) + f"   {BARS.get(name, '')}")
    if importlib.util.find_spec("cvxpy"):
        cells = [f"{cvxpy_bargain(n, 'general'):7.2f}" for n in options.tasks]
        print(f"{'cvxpy, nash':14}{'general':10}" + "".join(f"{cell:>16}" for cell in cells))
    print("milliseconds, cold / with the state of the step before; ! where a solver fell back")


if __name__ == "__main__":
    main()
