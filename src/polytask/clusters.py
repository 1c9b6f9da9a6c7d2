"""Data-parallel training on a cluster that Ray manages: one network by many workers."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

from polytask.errors import MissingExtraError, PolytaskError, RecipeError, TrainingError
from polytask.recipe import Recipe
from polytask.records import RunRecord

__all__ = ["run_on_ray"]


def run_on_ray(
    recipe: Recipe,
    n_processes: int,
    *,
    out: str | Path,
    address: str | None = None,
    resume: bool = False,
    compare: bool = False,
) -> RunRecord:
    """Run a recipe by so many processes on a Ray cluster; each is what one of ``torchrun``'s would be.

    Args:
        recipe: Names its data by paths that every machine has.
        n_processes: How many; one processor each, and one accelerator each if the recipe trains on them.
        out: Run folder, on a disk that the driver and the first process share.
        address: Of the cluster: ``auto`` or ``host:port``; Ray is started on this machine if ``None``.
        resume: Go on in a folder that exists.
        compare: Also train one model a task.

    Raises:
        MissingExtraError: If Ray is not installed.
        RecipeError: If there is no cluster at the address.
        TrainingError: If a process ended before it was done; what was saved is whole.

    Note:
        Actors of Ray's core, because these start in seconds. Ray Train does the same for a function that calls
        ``recipe.run(out=...)``: a process group that exists is used.

    References:
        Moritz et al. (2018). Ray: A distributed framework for emerging AI applications. OSDI.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # as processes that one starts oneself; Ray's own is 15
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("Training on a cluster", "ray", "ray") from error
    where = (
        {"address": address} if address else {"address": "local", "num_cpus": n_processes, "include_dashboard": False}
    )
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise RecipeError(f"There is no Ray cluster at {address!r} (auto, host:port): {error}") from error
    try:
        on_cuda = str(recipe.training.get("device", "cpu")).startswith("cuda")
        actor = ray.remote(num_cpus=1, num_gpus=int(on_cuda), max_restarts=0)(_Process)
        processes: list[Any] = [actor.remote(rank, n_processes) for rank in range(n_processes)]
        meeting = ray.get(processes[0].meeting.remote())
        asked = {"out": str(Path(out).resolve()), "resume": resume, "compare": compare}
        runs = [process.run.remote(meeting, recipe.plain(), asked) for process in processes]
        return RunRecord.from_json(_first_of(ray, runs))
    finally:
        ray.shutdown()


def _first_of(ray: Any, runs: list[Any]) -> dict[str, Any]:
    """What the first process answers, when all are done; the first failure ends all."""
    waiting = list(runs)
    while waiting:
        done, waiting = ray.wait(waiting)
        try:
            ray.get(done)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, PolytaskError):
                raise cause from error
            rank = runs.index(done[0])
            raise TrainingError(
                f"Rank {rank} of {len(runs)} ended before it was done ({str(error).splitlines()[0]}), so all of them "
                "were ended. What was saved is whole: go on by resume."
            ) from error
    found: dict[str, Any] = ray.get(runs[0])
    return found


class _Process:
    """One process of the training, in a worker of Ray's."""

    def __init__(self, rank: int, size: int):
        # Ray shows each worker its own accelerators only, so that the first one is its own.
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK="0")

    def meeting(self) -> tuple[str, int]:
        """Where the others find this one."""
        import ray

        with socket.socket() as free:
            free.bind(("", 0))
            return ray.util.get_node_ip_address(), free.getsockname()[1]

    def run(self, meeting: tuple[str, int], recipe: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        """Train with the others; gives the record."""
        os.environ.update(MASTER_ADDR=meeting[0], MASTER_PORT=str(meeting[1]))
        return Recipe(**recipe).run(**asked).record.to_json()
