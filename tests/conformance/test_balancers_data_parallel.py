"""Every registered balancer in every mode over two processes: the training of one process on the joined batch."""

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn

from polytask.balancing import balanced_backward, registry

TASKS = ("a", "b", "c")
CASES = [(name, mode) for name in registry.names() for mode in registry.create(name).modes]
STEPS = 12
SPLIT = 7  # of 12 rows: the processes have batches of different sizes


def batch(number):
    """Rows of which the first process has no label of b; in batches 2 and 7 nobody has one, in 3 and 8 only c is there.

    In batches 4 and 9 the first process has a alone, and the second c.
    """
    generator = torch.Generator().manual_seed(number)
    x, y = (torch.randn(12, n, generator=generator, dtype=torch.float64) for n in (5, 3))
    y[:SPLIT, 1] = torch.nan
    if number in (2, 7):
        y[:, 1] = torch.nan
    if number in (3, 8):
        y[:, :2] = y[2:9, 2] = torch.nan
    if number in (4, 9):
        y[:SPLIT, 1:] = y[SPLIT:, :2] = torch.nan
    return x, y


def losses_of(trunk, heads, x, y):
    """Sums over observed labels, over the rows; a process's rows count by their number, observed or not."""
    z = trunk(x)
    seen = ~y.isnan()
    return z, {
        task: (heads[task](z[seen[:, i]]).squeeze(1) - y[seen[:, i], i]).square().sum() / len(x)
        if seen[:, i].any()
        else None
        for i, task in enumerate(TASKS)
    }


def train(name, mode, rows, group=None, everywhere=12):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh()).double()
    heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in TASKS}).double()
    balancer = registry.create(name)
    balancer.bind(TASKS)
    parameters = [*trunk.parameters(), *heads.parameters(), *balancer.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.05)
    part = (rows.stop - rows.start) / everywhere
    size = 1 if group is None else 2
    found = []
    for step in range(STEPS):
        x, y = (whole[rows] for whole in batch(step))
        z, losses = losses_of(trunk, heads, x, y)
        further = {}
        if "cross_gramian" in balancer.needs:
            second = losses_of(trunk, heads, *(whole[rows] for whole in batch(step + 10)))[1]
            further["second"] = {n: None if loss is None else loss * part * size for n, loss in second.items()}
        if "validation" in balancer.needs:
            held = losses_of(trunk, heads, *(whole[rows] for whole in batch(step + 20)))[1]
            further["validation"] = sum(loss for loss in held.values() if loss is not None) * part * size
        optimiser.zero_grad()
        outcome = balanced_backward(
            losses,
            trunk,
            z,
            balancer=balancer,
            mode=mode,
            every=2,
            heads=heads,
            group=group,
            counts=[len(x)] * 3,
            sketch=16,
            **further,
        )
        optimiser.step()
        if "losses_after" in balancer.needs:
            with torch.no_grad():
                after = losses_of(trunk, heads, x, y)[1]
            values = torch.tensor([part * (after[n] or 0.0) for n in TASKS], dtype=torch.float64)
            if group is not None:
                dist.all_reduce(values, group=group)
            signals = outcome.signals
            balancer.after_step(replace(signals, losses=values[signals.index]))
        found += [outcome.weights, outcome.losses.nan_to_num(-1.0), *([] if mode == "sketch" else [gramian(outcome)])]
    found.append(torch.cat([p.detach().flatten().double() for p in parameters]))
    return found


def gramian(outcome):
    return torch.zeros(1) if outcome.gramian is None else outcome.gramian


def process(rank, folder):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        rows = slice(0, SPLIT) if rank == 0 else slice(SPLIT, 12)
        torch.save([train(*case, rows, dist.group.WORLD) for case in CASES], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def both():
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, args=(folder,), nprocs=2)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_two_processes_train_like_one_on_the_joined_batch(both, name, mode):
    first, second = (found[CASES.index((name, mode))] for found in both)
    for a, b, expected in zip(first, second, train(name, mode, slice(0, 12)), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, expected, rtol=1e-7, atol=1e-9)
