"""Trainings stacked into one program, over the same trainings one by one.

A made table of regressions; for each fold and seed one network a task, and three joint networks (equal weights,
uncertainty, dynamic weight average): the networks of a study. Both ways are divided among the same number of processes
of one thread each, arms and folds dealt in turn, and train the same number of epochs.

    loop       polytask.training.run.fit, one training after the other
    stacked    polytask.training.stacked.fit_stacked, networks of one shape at once
    products   the matrix products of the same trainings alone (forward and backward, validation left out), at the
               speed of this processor's product of the commonest shape: no exact way of training is faster

All three are measured in turn, ``--rounds`` times, and the best round of each process counts: on a machine that
others share only quiet moments compare like with like, and a short product finds them more easily than a long
training. CPU seconds are those of all processes, from after the data were made; memory is the largest of a process
beyond what it took before its first training.

``--most`` is the number of networks in a stack at most; with 0 it is what ``fit_stacked`` takes by itself: 16, or of
small networks as many as take 64 MiB. ``--memory`` is the MiB that a stack may take.

    python bench/stacked.py [--rows 5000] [--inputs 10] [--tasks 8] [--folds 5] [--seeds 2] [--epochs 100]
                            [--encoder '{name: mlp, widths: [64, 64]}'] [--workers 2] [--most 0] [--memory 512]
                            [--rounds 1]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from dataclasses import replace
from typing import Any

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from polytask.data.generators import related_regressions
from polytask.recipe import Recipe
from polytask.training.opening import prepare_recipe
from polytask.training.planning import plan_of
from polytask.training.run import fit
from polytask.training.stacked import Asked, fit_stacked
from polytask.training.stacked.begun import begin

BALANCERS = ("equal", "uncertainty", "dwa")


def trainings(options: argparse.Namespace, fold: int) -> tuple[list[Asked], list[Asked]]:
    """The trainings of a fold, single and joint; a fold is another split of the rows."""
    names = [f"y{i}" for i in range(options.tasks)]
    table = related_regressions(options.tasks, options.rows, n_inputs=options.inputs).frame
    single: list[Asked] = []
    joint: list[Asked] = []
    for seed in range(options.seeds):
        settings = {"epochs": options.epochs}
        recipe = Recipe(tasks=names, encoder=options.encoder, training=settings, seed=1000 * seed + fold)
        prepared = prepare_recipe(recipe, table)
        plan = plan_of(recipe, prepared)
        single += [Asked(prepared.only([name]), plan.alone(), name) for name in names]
        joint += [Asked(prepared, replace(plan, balancer=balancer)) for balancer in BALANCERS]
    return single, joint


def worker(options: argparse.Namespace, number: int, start: Any, results: Any) -> None:
    """Train one worker's share both ways, in turn: fold after fold, the single and the joint networks dealt in turn."""
    torch.set_num_threads(1)
    shares: list[list[Asked]] = [[] for _ in range(options.workers)]
    turn = 0
    for fold in range(options.folds):
        for part in trainings(options, fold):
            shares[turn % options.workers] += part
            turn += 1
    mine = shares[number]
    short = replace(mine[0], plan=replace(mine[0].plan, settings=replace(mine[0].plan.settings, epochs=1)))
    fit_stacked([short, short])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: dict[str, Any] = {"trainings": len(mine), "rate": 0.0}
    ways = {
        "loop": lambda: [fit(one.prepared, one.plan) for one in mine],
        "stacked": lambda: fit_stacked(mine, memory=options.memory * 2**20, most=options.most or None).fitted,
    }
    for way in list(ways) * options.rounds:
        start.wait()
        wall, cpu = time.perf_counter(), time.process_time()
        fitted = ways[way]()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        known = found.setdefault(way, {"cpu": cpu, "wall": wall, "memory": memory})
        known |= {"cpu": min(known["cpu"], cpu), "wall": min(known["wall"], wall)}
        found["rate"] = max(found["rate"], speed())
        steps = [one.history[-1]["step"] for one in fitted]
    found["steps"] = sum(steps)
    each = {len(one.prepared.tasks): operations(one) for one in mine}
    found["products"] = sum(n * each[len(one.prepared.tasks)] for n, one in zip(steps, mine, strict=True))
    results.put(found)


def timed(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All workers at once."""
    context = multiprocessing.get_context("spawn")
    results, start = context.Queue(), context.Barrier(options.workers)
    crew = [context.Process(target=worker, args=(options, number, start, results)) for number in range(options.workers)]
    for process in crew:
        process.start()
    each = [results.get() for _ in crew]
    for process in crew:
        process.join()
    return each


def operations(asked: Asked) -> float:
    """Floating-point operations of the matrix products of one step."""
    begun = begin(asked.prepared, asked.plan)
    training = begun.training
    (source,) = training.feed.sources.values()
    batch = source.batch(torch.arange(asked.plan.settings.batch_size))
    with FlopCounterMode(display=False) as counter:
        losses = training.objective(training.model(batch.inputs, None, batch.source), batch)
        torch.stack([loss for loss in losses.values() if loss is not None]).sum().backward()
    return float(counter.get_total_flops())


def speed(rows: int = 1024, width: int = 128) -> float:
    """Operations a CPU second of one thread's plain product, the best of many."""
    torch.set_num_threads(1)
    a, b, out = torch.randn(rows, width), torch.randn(width, width), torch.empty(rows, width)
    best = float("inf")
    for _ in range(300):
        began = time.process_time_ns()
        torch.mm(a, b, out=out)
        best = min(best, time.process_time_ns() - began)
    return 2 * rows * width * width / best * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 5000), ("inputs", 10), ("tasks", 8), ("folds", 5), ("seeds", 2), ("epochs", 100),
                          ("workers", 2), ("most", 0), ("memory", 512), ("rounds", 1)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--encoder", type=yaml.safe_load, default="auto")
    options = parser.parse_args()
    each = timed(options)
    steps, n = (sum(one[key] for one in each) for key in ("steps", "trainings"))
    rate = max(one["rate"] for one in each)
    print(f"{n} trainings of {options.rows} rows, {options.tasks} tasks, encoder {options.encoder}, "
          f"at most {options.epochs} epochs, {options.workers} processes, best of {options.rounds} rounds")  # fmt: skip
    cpu = {way: sum(one[way]["cpu"] for one in each) for way in ("loop", "stacked")}
    for way, spent in cpu.items():
        wall, memory = (max(one[way][key] for one in each) for key in ("wall", "memory"))
        print(f"{way:<8} {spent:8.1f} CPU s  {spent / steps * 1e3:6.2f} CPU ms a step of a network  "
              f"{wall:8.1f} s  {memory:6.0f} MiB a process beyond the data")  # fmt: skip
    products = sum(one["products"] for one in each) / rate
    print(f"products {products:8.1f} CPU s  {products / steps * 1e3:6.2f} CPU ms a step  at {rate / 1e9:.0f} GFLOP/s")
    print(f"stacked over loop {cpu['stacked'] / cpu['loop']:.2f} in CPU s (aim 0.20; the products alone over loop "
          f"{products / cpu['loop']:.2f}, over stacked {products / cpu['stacked']:.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
