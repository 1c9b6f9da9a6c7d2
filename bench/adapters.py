"""Many tasks on one language model: adapters on a common trunk beside a model a task, memory and seconds of an answer.

A transformer of the size asked (random weights; what is measured does not depend on them) reads a batch of texts.
Compared are T models of their own, one after another, and one frozen trunk with T low-rank changes (the sharing
`lora`), whose tasks run as one batch; and both when a text is asked about one task only, as a server with many tenants
is.

Usage:
    python bench/adapters.py [--tasks 1,4,16] [--width 256] [--layers 4] [--rank 8]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from polytask.models.building import build_model
from polytask.models.inputs import Field, InputShape
from polytask.models.spec import ModelSpec

VOCABULARY = 8000


def spec(tasks: int, options: argparse.Namespace, sharing: str, **sharing_options: object) -> ModelSpec:
    return ModelSpec(
        inputs={"texts": InputShape({"x": Field((options.length,), (VOCABULARY,))})},
        n_outputs={f"task {i}": 4 for i in range(tasks)},
        encoder="transformer",
        encoder_options={"width": options.width, "n_layers": options.layers, "dropout": 0.0},
        sharing=sharing,
        sharing_options=sharing_options,
    )


def seconds_of(call: Callable[[], object], rounds: int) -> float:
    """Processor seconds, the smallest of several rounds, because other work may run on the machine."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


@torch.no_grad()
def measure(n_tasks: int, options: argparse.Namespace) -> None:
    rows = torch.randint(1, VOCABULARY, (options.batch, options.length))
    alone = build_model(spec(1, options, "hard")).eval()
    adapted = build_model(spec(n_tasks, options, "lora", rank=options.rank, freeze=True)).eval()
    names = list(adapted.tasks)
    size = sum(p.numel() * p.element_size() for p in alone.parameters()) / 2**20
    together = sum(p.numel() * p.element_size() for p in adapted.parameters()) / 2**20
    one = seconds_of(lambda: alone(rows), options.rounds)
    all_asked = seconds_of(lambda: adapted(rows), options.rounds)
    one_asked = seconds_of(lambda: adapted(rows, names[:1]), options.rounds)
    print(
        f"{n_tasks:3d} tasks: {n_tasks * size:8.1f} MiB as models of their own, {together:7.1f} MiB as adapters "
        f"(each {(together - size) / n_tasks:.2f}); all tasks {all_asked / (n_tasks * one):.2f} times, one task "
        f"{one_asked / one:.2f} times the seconds of models of their own ({1000 * one:.1f} ms a task)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="1,4,16", help="numbers of tasks")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64, help="words a text")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for n_tasks in map(int, options.tasks.split(",")):
        measure(n_tasks, options)


if __name__ == "__main__":
    main()
