"""Trainings by four processes, three of which are idle in the last step of an epoch, end like one."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta

import torch
from several_processes import CASES, assert_equal, by_one_process, numbers, recipe, table
from torch import distributed as dist
from torch import multiprocessing as mp

FOUR = ["gramian", "constraints"]


def of_four(rank: int, folder: str) -> None:
    """What one of four processes finds; in the last step of an epoch, of two rows, three of them are idle."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", 4)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=4, timeout=timedelta(seconds=120))
    torch.save({name: numbers(recipe(**CASES[name]).run(table())) for name in FOUR}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_four_processes_end_like_one(tmp_path):
    multiprocessing.set_forkserver_preload(["pandas", "polytask.training.run"])  # loaded once, not by each of them
    mp.start_processes(of_four, args=(str(tmp_path),), nprocs=4, start_method="forkserver")
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(4)]
    for name in FOUR:
        for other in found[1:]:
            assert_equal(found[0][name], other[name])
        for key, value in numbers(by_one_process(name)).items():
            torch.testing.assert_close(found[0][name][key], value, rtol=1e-4, atol=2e-5)
