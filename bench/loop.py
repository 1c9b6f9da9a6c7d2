"""The training loop's step over a hand-written PyTorch loop on the same model.

A 3x256 MLP, 32 inputs, two regression tasks, batch 256, AdamW. Both loops run in one process, in turns, on the same
rows; the ratio is the median of the turns' ratios.

    hand       inputs[rows], forward, (mse_a + mse_b).backward(), AdamW as it comes, zero_grad; nothing else
    fused      the same with AdamW(fused=True), which is what polytask takes
    polytask   Training: the same as fused and masks, checks for NaN, sums of losses and weights, signals, progress

    python bench/loop.py [--turns 15] [--missing 0.5] [--tasks 2] [--threads 1]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator

import torch
from torch import nn

from polytask.balancing import registry as balancers
from polytask.data.batch import ArraySource
from polytask.data.plan import BatchPlan
from polytask.models.building import build_model
from polytask.models.inputs import InputShape
from polytask.models.spec import ModelSpec
from polytask.tasks import Regression
from polytask.training.feed import Feed
from polytask.training.loop import Training
from polytask.training.settings import Settings

ROWS, INPUTS, BATCH = 256 * 100, 32, 256


def source(n_tasks: int, missing: float, seed: int = 0) -> tuple[ArraySource, list[Regression]]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, INPUTS, generator=draw)
    names = [f"task {i}" for i in range(n_tasks)]
    y = torch.tanh(x @ torch.randn(INPUTS, n_tasks, generator=draw)) + 0.1 * torch.randn(ROWS, n_tasks, generator=draw)
    tasks = []
    for i, name in enumerate(names):
        tasks.append(Regression(name=name))
        tasks[-1].fit(y[:, i].numpy())
    targets = {name: torch.from_numpy(task.encode(y[:, i].numpy())[0]).float()
               for i, (name, task) in enumerate(zip(names, tasks, strict=True))}  # fmt: skip
    observed = {name: torch.rand(ROWS, generator=draw) >= missing for name in names}
    return ArraySource("main", x, targets, observed), tasks


class Plain(nn.Module):
    def __init__(self, n_tasks: int):
        super().__init__()
        widths = [INPUTS, 256, 256, 256]
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList([nn.Linear(256, 1) for _ in range(n_tasks)])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        z = self.trunk(x)
        return [head(z).squeeze(1) for head in self.heads]


def hand_written(data: ArraySource, n_tasks: int, missing: float, fused: bool) -> Iterator[float]:
    """Seconds of each epoch of the plain loop."""
    torch.manual_seed(0)
    model = Plain(n_tasks)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=fused)
    targets = list(data.targets.values())
    masks = list(data.observed.values())
    while True:
        began = time.perf_counter()
        order = torch.randperm(ROWS)
        for start in range(0, ROWS, BATCH):
            rows = order[start : start + BATCH]
            outputs = model(data.inputs[rows])
            losses = []
            for out, target, mask in zip(outputs, targets, masks, strict=True):
                error = (out - target[rows]).square()
                if missing:
                    seen = mask[rows]
                    losses.append((error * seen).sum() / seen.sum().clamp(min=1))
                else:
                    losses.append(error.mean())
            optimiser.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()
            optimiser.step()
        yield time.perf_counter() - began


def with_polytask(data: ArraySource, tasks: list[Regression]) -> Iterator[float]:
    """Seconds of each epoch of the library's loop."""
    torch.manual_seed(0)
    names = [task.name for task in tasks]
    model = build_model(ModelSpec({"main": InputShape.of(data.inputs)}, dict.fromkeys(names, 1), encoder="mlp"))
    plan = BatchPlan({"main": ROWS}, BATCH, seed=0)
    settings = Settings(epochs=10_000, patience=None)
    training = Training(model, tasks, Feed({"main": data}, plan), {}, balancers.create("equal"), settings)
    while True:
        began = time.perf_counter()
        training.epoch()
        yield time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data, tasks = source(asked.tasks, asked.missing)
    hand, fused = (hand_written(data, asked.tasks, asked.missing, is_fused) for is_fused in (False, True))
    loops = {"hand-written": hand, "hand-written, fused": fused, "polytask": with_polytask(data, tasks)}
    for epochs in loops.values():
        next(epochs)
    turns = [{name: next(epochs) for name, epochs in loops.items()} for _ in range(asked.turns)]
    steps = ROWS // BATCH
    for name in loops:
        seconds = statistics.median(turn[name] for turn in turns) / steps
        ratio = statistics.median(turn["polytask"] / turn[name] for turn in turns)
        print(f"{name:<20} {seconds * 1e3:7.3f} ms a step   polytask over it {ratio:.3f}")
    print(f"{asked.turns} turns, {asked.tasks} tasks, {asked.missing:.0%} of the labels missing")


if __name__ == "__main__":
    main()
