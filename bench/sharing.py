"""What ways of sharing cost: MMoE's experts over one dense layer, and every method's step over hard sharing's.

The first table: MMoE (8 experts reading the raw inputs, one dense layer each, two tasks) over one dense layer with
ReLU of the same total width, and the same experts run in a Python loop over it. The second: a step (forward and
backward of all tasks, with the penalty) over hard sharing's, on the same MLP. All in one process, in turns; ratios
are medians of the turns' ratios.

    python bench/sharing.py [--turns 15] [--threads 1] [--tasks 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from polytask.models.encoders import registry as encoders
from polytask.models.inputs import InputShape
from polytask.models.sharing import Sharing, registry

N_EXPERTS = 8


def seconds(step: Callable[[], None], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        step()
    return (time.perf_counter() - start) / repeat


def in_turns(steps: Mapping[str, Callable[[], None]], turns: int, least: float = 0.02) -> dict[str, list[float]]:
    """Times of each step, a turn after the other; each turn lasts long enough to be measured."""
    repeats = {}
    for name, step in steps.items():
        step()
        repeats[name] = max(1, round(least / max(seconds(step, 2), 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            times[name].append(seconds(step, repeats[name]))
    return times


def over(times: Mapping[str, list[float]], name: str, base: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def training_step(module: nn.Module, run: Callable[[], list[Tensor]]) -> Callable[[], None]:
    """Forward, and backward from gradients drawn once: what lies above is not measured."""
    cotangents = [torch.randn_like(out) for out in run()]

    def step() -> None:
        module.zero_grad(set_to_none=True)
        torch.autograd.backward(run(), cotangents)

    return step


class LoopedExperts(nn.Module):
    """MMoE with a Python loop over experts: what batching saves."""

    def __init__(self, n_inputs: int, width: int, n_tasks: int):
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(n_inputs, width), nn.ReLU()) for _ in range(N_EXPERTS))
        self.gates = nn.ModuleList(nn.Linear(n_inputs, N_EXPERTS) for _ in range(n_tasks))

    def forward(self, x: Tensor) -> list[Tensor]:
        stacked = torch.stack([expert(x) for expert in self.experts], 1)
        return [(gate(x).softmax(1).unsqueeze(2) * stacked).sum(1) for gate in self.gates]


def experts(n_rows: int, n_inputs: int, width: int, n_tasks: int, turns: int) -> str:
    x = torch.randn(n_rows, n_inputs)
    dense = nn.Sequential(nn.Linear(n_inputs, N_EXPERTS * width), nn.ReLU())
    encoder = encoders.create("mlp", {"main": InputShape.of(x)}, widths=(width,))
    tasks = [f"task {i}" for i in range(n_tasks)]
    mmoe = registry.create("mmoe", encoder, tasks, n_experts=N_EXPERTS, ratio=0.0, expert_widths=())
    looped = LoopedExperts(n_inputs, width, n_tasks)
    steps = {
        "dense": training_step(dense, lambda: [dense(x)]),
        "mmoe": training_step(mmoe, lambda: list(mmoe(x).values())),
        "looped": training_step(looped, lambda: looped(x)),
    }
    times = in_turns(steps, turns)
    return (
        f"{n_rows:5d} {n_inputs:6d} {width:6d}   {1e3 * statistics.median(times['dense']):8.2f} ms"
        f"   {over(times, 'mmoe', 'dense'):5.2f}   {over(times, 'looped', 'dense'):5.2f}"
    )


def every_method(n_rows: int, n_inputs: int, n_tasks: int, turns: int) -> list[str]:
    x = torch.randn(n_rows, n_inputs)
    tasks = [f"task {i}" for i in range(n_tasks)]
    steps: dict[str, Callable[[], None]] = {}
    counts: dict[str, dict[str, int]] = {}
    for name in ["hard", *(n for n in registry.names() if n != "hard")]:
        encoder = encoders.create("mlp", {"main": InputShape.of(x)}, widths=(128, 128, 128))
        sharing: Sharing = registry.create(name, encoder, tasks)
        counts[name] = sharing.count_parameters()

        def outputs(sharing: Sharing = sharing) -> list[Tensor]:
            out, penalty = list(sharing(x).values()), sharing.penalty()
            return out if penalty is None else [*out, penalty]

        steps[name] = training_step(sharing, outputs)
    times = in_turns(steps, turns)
    return [
        f"{name:18s} {over(times, name, 'hard'):6.2f}   {counts[name]['shared']:9,d}   {counts[name]['private']:9,d}"
        for name in steps
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"MMoE, {N_EXPERTS} experts, {arguments.tasks} tasks, over one dense layer of the same total width")
    print(" rows inputs  width         dense   mmoe   looped experts")
    for n_rows, n_inputs, width in ((256, 128, 32), (256, 256, 128), (1024, 256, 128), (1024, 512, 256)):
        print(experts(n_rows, n_inputs, width, arguments.tasks, arguments.turns))
    print(f"\nA step over hard sharing's: MLP 3 x 128, 256 rows of 64, {arguments.tasks} tasks, options by default")
    print("sharing             ratio      shared     private")
    print("\n".join(every_method(256, 64, arguments.tasks, arguments.turns)))


if __name__ == "__main__":
    main()
