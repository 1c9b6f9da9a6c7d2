"""Trainings stacked into one program, over the same trainings one by one.

A made table of regressions; for each fold and seed one network a task, and three joint networks (equal weights,
uncertainty, dynamic weight average): the networks of a study. Both ways are divided among the same number of processes
of one thread each, arms and folds dealt in turn, and train the same number of epochs.

    loop       polytask.training.run.fit, one training after the other
    stacked    polytask.training.stacked.fit_stacked, networks of one shape at once
    floor      the floating-point operations of all matrix products of the same trainings (forward and backward,
               validation left out), at the speed of this processor's product of the commonest shape, measured here

CPU seconds are those of all processes, from after the data were made; memory is the largest of a process beyond what it
took before its first training. Wall-clock times mean something on an idle machine only.

    python bench/stacked.py [--rows 5000] [--inputs 10] [--tasks 8] [--folds 5] [--seeds 2] [--epochs 100]
                            [--encoder auto] [--workers 2] [--most 16] [--memory 512]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from polytask.data.generators import related_regressions
from polytask.recipe import Recipe
from polytask.training.run import fit
from polytask.training.running import plan_of, prepare_recipe
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


def worker(options: argparse.Namespace, number: int, way: str, start: Any, results: Any) -> None:
    """Train one worker's share: fold after fold, the single and the joint networks of each dealt in turn."""
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
    start.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    if way == "loop":
        found = [fit(one.prepared, one.plan) for one in mine]
    else:
        found = fit_stacked(mine, memory=options.memory * 2**20, most=options.most).fitted
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    steps = sum(one.history[-1]["step"] for one in found)
    results.put({"cpu": cpu, "wall": wall, "memory": memory / 1024, "steps": steps, "trainings": len(found)})


def timed(options: argparse.Namespace, way: str) -> dict[str, float]:
    """All workers at once."""
    context = multiprocessing.get_context("spawn")
    results, start = context.Queue(), context.Barrier(options.workers)
    crew = [
        context.Process(target=worker, args=(options, number, way, start, results)) for number in range(options.workers)
    ]
    for process in crew:
        process.start()
    each = [results.get() for _ in crew]
    for process in crew:
        process.join()
    return {
        "cpu": sum(one["cpu"] for one in each),
        "wall": max(one["wall"] for one in each),
        "memory": max(one["memory"] for one in each),
        "steps": sum(one["steps"] for one in each),
        "trainings": sum(one["trainings"] for one in each),
    }


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
                          ("workers", 2), ("most", 16), ("memory", 512)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--encoder", default="auto")
    options = parser.parse_args()
    found = {way: timed(options, way) for way in ("loop", "stacked")}
    single, joint = trainings(options, 0)
    n, n_single = found["loop"]["trainings"], options.tasks / (options.tasks + len(BALANCERS))
    each = n_single * operations(single[0]) + (1 - n_single) * operations(joint[0])
    rate = speed()
    floor = each * found["loop"]["steps"] / rate
    print(f"{n} trainings of {options.rows} rows, {options.tasks} tasks, encoder {options.encoder}, "
          f"at most {options.epochs} epochs, {options.workers} processes")  # fmt: skip
    for way, one in found.items():
        print(f"{way:<8} {one['cpu']:8.1f} CPU s  {one['cpu'] / one['steps'] * 1e3:6.2f} CPU ms a step of a network  "
              f"{one['wall']:8.1f} s  {one['memory']:6.0f} MiB a process beyond the data")  # fmt: skip
    print(f"floor    {floor:8.1f} CPU s  {each / rate * 1e3:6.2f} CPU ms a step  at {rate / 1e9:.0f} GFLOP/s")
    loop, stacked = found["loop"]["cpu"], found["stacked"]["cpu"]
    print(f"stacked over loop {stacked / loop:.2f} in CPU s (aim 0.20; the floor over loop is {floor / loop:.2f})")


if __name__ == "__main__":
    main()
