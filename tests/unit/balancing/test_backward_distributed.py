"""Two processes over gloo find the weights and gradients of one process on the joined batch."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch import multiprocessing as mp

from polytask.balancing import Constrained, balanced_backward, registry
from polytask.balancing.multipliers import AugmentedLagrangian
from polytask.errors import NonFiniteError, RecipeError

TASKS = ("a", "b", "c")
BOUND = " within a bound"
CASES = [
    ("nash_mtl", "exact", False),
    ("nash_mtl", "features", False),
    ("nash_mtl", "every_k", False),
    ("nash_mtl", "matrix_free", False),
    ("pcgrad", "exact", True),
    ("scale_invariant", "exact", True),
    ("upgrad", "features", True),
    ("uncertainty", "exact", True),
    ("moco", "exact", True),
    ("equal within a bound", "exact", True),
    ("nash_mtl within a bound", "exact", True),
]


def _model() -> tuple[nn.Module, nn.ModuleDict]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh())
    return trunk, nn.ModuleDict({task: nn.Linear(8, 1) for task in TASKS})


def _data(missing: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 6, generator=generator), torch.randn(12, 3, generator=generator)
    if missing:
        y[:6, 1] = torch.nan  # the first process has no label of b
        y[8:, 2] = torch.nan
    return x, y


def _run(case: tuple[str, str, bool], rows: slice, group: dist.ProcessGroup | None) -> list[Tensor]:
    name, mode, missing = case
    trunk, heads = _model()
    x, y = (part[rows] for part in _data(missing))
    balancer = registry.create(name.removesuffix(BOUND))
    bounded = name.endswith(BOUND)
    if bounded:
        balancer = Constrained(balancer, AugmentedLagrangian(), ["c is small"])
    balancer.bind([*TASKS, "c is small"] if bounded else TASKS)
    own = {**heads, "c is small": heads["c"]} if bounded else heads
    for _ in range(2):
        trunk.zero_grad()
        heads.zero_grad()
        z = trunk(x)
        observed = ~y.isnan()
        losses = {
            task: (heads[task](z[seen]).squeeze(1) - y[seen, i]).square().mean() if seen.any() else None
            for i, task in enumerate(TASKS)
            if (seen := observed[:, i]) is not None
        }
        counts = observed.sum(0).tolist()
        if bounded:
            losses["c is small"] = None if losses["c"] is None else losses["c"] - 0.1
            counts.append(counts[2])
        outcome = balanced_backward(
            losses, trunk.parameters(), z, balancer=balancer, mode=mode, heads=own, group=group, counts=counts
        )
    parameters = [*trunk.parameters(), *heads.parameters()]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    gramian = torch.zeros(0) if outcome.gramian is None else outcome.gramian
    return [outcome.weights, outcome.losses, gramian, torch.cat([g.flatten() for g in grads])]


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        rows = slice(0, 6) if rank == 0 else slice(6, 12)
        found = [_run(case, rows, dist.group.WORLD) for case in CASES]
        torch.save(found, f"{folder}/{rank}.pt")
        trunk, heads = _model()
        z = trunk(torch.randn(2, 6))
        losses = {task: head(z).mean() * (torch.nan if rank == 1 else 1.0) for task, head in heads.items()}
        with pytest.raises(NonFiniteError, match="'a'"):  # in both: a process that went on alone would wait forever
            balanced_backward(
                losses, trunk, z, balancer=registry.create("nash_mtl"), heads=heads, group=dist.group.WORLD
            )
    finally:
        dist.destroy_process_group()


def test_two_processes_equal_one_on_the_joined_batch() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, args=(folder,), nprocs=2)
        first, second = (torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2))
    for case, left, right in zip(CASES, first, second, strict=True):
        joined = _run(case, slice(0, 12), None)
        for a, b, expected in zip(left, right, joined, strict=True):
            assert torch.equal(a, b), case
            torch.testing.assert_close(a, expected, rtol=1e-4, atol=1e-6, msg=lambda text, case=case: f"{case}: {text}")


def test_heads_must_be_given(tmp_path: Path) -> None:
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        trunk, heads = _model()
        loss = heads["a"](trunk(torch.randn(2, 6))).sum()
        with pytest.raises(RecipeError, match="heads="):
            balanced_backward([loss], trunk.parameters(), balancer=registry.create("nash_mtl"), group=dist.group.WORLD)
    finally:
        dist.destroy_process_group()
