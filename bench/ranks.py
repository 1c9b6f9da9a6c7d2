"""Data parallel, memory and precision on this machine: seconds a step, bytes a step, errors of the sketch.

    python bench/ranks.py                  # one process on the whole batch against two on halves of it
    python bench/ranks.py --processes 4    # against four on quarters
    python bench/ranks.py --part sketch    # error of the sketched Gramian, and of the weights found from it, by width
    python bench/ranks.py --part passes    # recompute, accumulate, bf16, fp16, torch.compile: time and memory

One process and several are measured in turn, in the same processes: the others wait while the first works alone. The
combined gradient of one and of several is compared, too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch import multiprocessing as mp

from polytask.balancing import balanced_backward, registry
from polytask.balancing.sketch import sketched_gramian
from polytask.models.recompute import recomputed

METHODS = [("equal", "exact"), ("nash_mtl", "exact"), ("nash_mtl", "sketch"), ("nash_mtl", "features")]


class Net(nn.Module):
    """A trunk of dense layers and a head a task."""

    def __init__(self, n_tasks: int, width: int, depth: int = 4):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(depth)]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({f"t{i}": nn.Linear(width, 1) for i in range(n_tasks)})

    def losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z = self.trunk(x)
        return z, {
            name: (head(z).squeeze(1) - y[:, i]).square().mean() for i, (name, head) in enumerate(self.heads.items())
        }


def data(rows: int, width: int, n_tasks: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, width, generator=generator)
    return x, x[:, :n_tasks].tanh() + x[:, 1 : n_tasks + 1] * torch.linspace(-1, 1, n_tasks)


def timed(step: Callable[[], Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) / times


def ranks(rank: int, folder: str, asked: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", asked.processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=asked.processes)
    net = Net(asked.tasks, asked.width)
    x, y = data(asked.rows, asked.width, asked.tasks)
    part = slice(rank * asked.rows // asked.processes, (rank + 1) * asked.rows // asked.processes)
    n_shared, n_all = (sum(p.numel() for p in part.parameters()) for part in (net.trunk, net))
    if rank == 0:
        print(f"{asked.tasks} tasks, {n_shared:,} shared parameters, {n_all - n_shared:,} of heads, {asked.rows} rows")
        columns = {
            "method": -22,
            "1 process ms": 13,
            f"{asked.processes} processes ms": 15,
            "speed-up": 9,
            "bytes a step": 14,
            "sum ms": 8,
            "off": 10,
        }
        print("".join(f"{name:<{-w}}" if w < 0 else f"{name:>{w}}" for name, w in columns.items()))
    for name, mode in METHODS:
        balancer, sent = registry.create(name), 0

        def step(rows: slice, group: Any, name: Any = balancer, mode: str = mode) -> None:
            nonlocal sent
            net.zero_grad()
            z, losses = net.losses(x[rows], y[rows])
            outcome = balanced_backward(
                losses, net.trunk, z, balancer=name, mode=mode, heads=net.heads, group=group, sketch=asked.sketch
            )
            sent = outcome.report.sent

        def gradient(rows: slice, group: Any, name: str = name, step: Callable[..., None] = step) -> Tensor:
            """By a balancer that has seen nothing yet."""
            step(rows, group, registry.create(name))
            return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

        whole, summed = gradient(slice(None), None), gradient(part, dist.group.WORLD)
        off = ((summed - whole).norm() / whole.norm()).item()
        alone, both, wire = [], [], []
        for _ in range(asked.rounds + 1):
            if rank == 0:
                alone.append(timed(lambda: step(slice(None), None), asked.times))
            dist.barrier()
            both.append(timed(lambda: step(part, dist.group.WORLD), asked.times))
            message = torch.zeros(max(sent // 4, 1))
            wire.append(timed(lambda message=message: dist.all_reduce(message), asked.times))
            dist.barrier()
        if rank == 0:
            one, several, summing = (1e3 * statistics.median(times[1:]) for times in (alone, both, wire))
            ratio = statistics.median(a / b for a, b in zip(alone[1:], both[1:], strict=True))
            told = f"{one:>13.1f}{several:>15.1f}{ratio:>9.2f}{sent:>14,}{summing:>8.1f}{off:>10.1e}"
            print(f"{name + ' ' + mode:<22}{told}", flush=True)
    dist.destroy_process_group()


def sketch(asked: argparse.Namespace) -> None:
    """Relative errors of inner products, and how far the weights are off, over many sketches of the same gradients."""
    net = Net(asked.tasks, asked.width)
    _, losses = net.losses(*data(asked.rows, asked.width, asked.tasks))
    rows = [torch.autograd.grad(loss, list(net.trunk.parameters()), retain_graph=True) for loss in losses.values()]
    block = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    exact = block.double() @ block.double().T
    norms = exact.diagonal().sqrt()
    print(f"{asked.tasks} tasks, {block.shape[1]:,} shared parameters; exact: {4 * block.numel():,} bytes a step")
    print(f"{'k':>7}{'bytes':>10}{'error of G':>12}{'bound':>8}{'nash_mtl':>10}{'mgda':>8}{'pcgrad':>8}{'ms':>7}")
    for width in asked.widths:
        errors, off = [], {name: [] for name in ("nash_mtl", "mgda", "pcgrad")}
        took = timed(lambda width=width: sketched_gramian([block], width, 0), 3)
        for number in range(asked.tries):
            near = sketched_gramian([block], width, number)
            errors.append(((near - exact) / torch.outer(norms, norms)).square().mean().item())
            for name, found in off.items():
                one, other = (direction(name, gramian) for gramian in (exact, near))
                angle = (one @ exact @ other) / ((one @ exact @ one) * (other @ exact @ other)).sqrt()
                found.append(angle.item())
        cosine = (exact / torch.outer(norms, norms)).square()
        bound = ((1 + cosine) / width).mean().sqrt().item()
        angles = "".join(
            f"{statistics.mean(off[n]):>{w}.4f}" for n, w in (("nash_mtl", 10), ("mgda", 8), ("pcgrad", 8))
        )
        error = statistics.mean(errors) ** 0.5
        print(
            f"{width:>7}{4 * width * asked.tasks:>10,}{error:>12.4f}{bound:>8.4f}{angles}{1e3 * took:>7.1f}", flush=True
        )
    print(
        "error of G: root mean square of <g_s, g_t> over |g_s| |g_t|; methods: cosine between the combined gradients."
    )


def direction(name: str, gramian: Tensor) -> Tensor:
    from polytask.balancing import Signals

    balancer = registry.create(name)
    balancer.bind([str(i) for i in range(len(gramian))])
    weights: Tensor = balancer(Signals.of(torch.ones(len(gramian)), gramian=gramian))
    return weights


def passes(asked: argparse.Namespace) -> None:
    """A step of plain summation and of nash_mtl in each way; memory kept for the way back."""
    torch.set_num_threads(1)
    net = Net(asked.tasks, asked.width)
    x, y = data(asked.rows, asked.width, asked.tasks)
    trunk = net.trunk
    compiled = None
    if asked.compile:
        from torch._functorch import config

        config.donated_buffer = False  # or balancers could not go through the trunk several times
        compiled = torch.compile(trunk)
    ways: dict[str, tuple[Callable[[Tensor], Tensor], torch.dtype | None]] = {
        "as it is": (trunk, None),
        "recompute": (lambda v: recomputed(trunk, v, 1, trunk), None),  # type: ignore[dict-item,return-value,arg-type]
        "accumulate 4": (lambda v: recomputed(trunk, v, 4, trunk), None),  # type: ignore[dict-item,return-value,arg-type]
        "bf16": (trunk, torch.bfloat16),
        "fp16": (trunk, torch.float16),
    }
    if compiled is not None:
        ways["torch.compile"] = (compiled, None)
    print(f"{'way':<16}{'method':<10}{'ms a step':>10}{'over as it is':>14}{'MB kept':>9}")
    for method in ("equal", "nash_mtl"):
        times: dict[str, list[float]] = {way: [] for way in ways}
        kept: dict[str, int] = {}
        for turn in range(asked.rounds + 1):
            for way, (run, dtype) in ways.items():

                def step(
                    run: Any = run, dtype: Any = dtype, way: str = way, method: str = method, kept: Any = kept
                ) -> None:
                    net.zero_grad()
                    held: dict[int, int] = {}

                    def pack(tensor: Tensor) -> Tensor:
                        held[tensor.data_ptr()] = tensor.numel() * tensor.itemsize
                        return tensor

                    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
                            z = run(x)
                            outs = {name: head(z) for name, head in net.heads.items()}
                        losses = [(o.float().squeeze(1) - y[:, i]).square().mean() for i, o in enumerate(outs.values())]
                    kept[way] = sum(held.values())
                    balanced_backward(losses, trunk, z, balancer=registry.create(method))

                took = timed(step, asked.times)
                if turn:
                    times[way].append(took)
        plain = statistics.median(times["as it is"])
        weights = sum(p.numel() for p in trunk.parameters()) * 4
        for way, found in times.items():
            took = statistics.median(found)
            print(
                f"{way:<16}{method:<10}{1e3 * took:>10.1f}{took / plain:>14.2f}{(kept[way] - weights) / 2**20:>9.1f}",
                flush=True,
            )
    print("MB kept: tensors saved for the way back beyond the trunk's weights (below 0: without the weights too).")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["ranks", "sketch", "passes"], default="ranks")
    parser.add_argument("--processes", type=int, default=2, help="of the part 'ranks'")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--sketch", type=int, default=1024)
    parser.add_argument("--widths", type=int, nargs="*", default=[16, 64, 256, 1024, 4096, 16384])
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too; needs a C++ compiler")
    asked = parser.parse_args()
    if asked.part == "ranks":
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(ranks, args=(folder, asked), nprocs=asked.processes)
    elif asked.part == "sketch":
        sketch(asked)
    else:
        passes(asked)


if __name__ == "__main__":
    main()
