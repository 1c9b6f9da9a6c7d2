"""One training by the workers of Ray Train: on this machine, or on the machines of a cluster."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polytask.bundle import load
from polytask.errors import MissingExtraError, PolytaskError, RecipeError, TrainingError
from polytask.records import RunRecord
from polytask.training.progress import Progress
from polytask.training.run_folder import RunFolder
from polytask.training.running import Run, run

if TYPE_CHECKING:
    from polytask.recipe import Recipe

__all__ = ["OnRay", "import_ray", "join_cluster"]


@dataclass(frozen=True)
class OnRay:
    """Trains a recipe by several processes that Ray starts, what ``polytask fit --processes`` does on one machine.

    The processes train one network, each with its part of every batch, and end like one process on the joined batch.
    Ray is started for the training on this machine, or joined where it runs. It reports nothing to its makers; what is
    started here has no dashboard and listens on the loopback address only.

    Args:
        processes: How many; each reserves a processor for every thread, and an accelerator if the recipe trains on one.
        threads: Of each.
        address: Of a cluster: ``auto``, ``host:port``, ``ray://host:port``; ``None`` for this machine.

    Raises:
        RecipeError: If there is no process or thread.

    Example:
        >>> OnRay(processes=2).threads
        1

    Note:
        Every machine needs the same polytask, the same data at the same paths, and ``out`` on a disk that all can
        write to. After Ctrl-C, or when a process dies, what was saved is whole, and ``resume`` goes on from it.

    References:
        Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.
    """

    processes: int = 2
    threads: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        if self.processes < 1 or self.threads < 1:
            raise RecipeError(f"Ray needs at least 1 process and 1 thread, got {self.processes} and {self.threads}.")

    def run(
        self,
        recipe: Recipe,
        data: Any = None,
        *,
        out: str | Path,
        resume: bool = False,
        compare: bool = False,
        progress: Progress | None = None,
    ) -> Run:
        """Train; see :meth:`polytask.recipe.Recipe.run`.

        Args:
            recipe: What to train.
            data: Tables or data sets, in place of the recipe's files.
            out: The run folder.
            resume: Go on in a folder that exists.
            compare: Also train one model a task.
            progress: Told about each epoch.

        Raises:
            MissingExtraError: If Ray is not installed.
            PolytaskError: Whatever a process refused.
            TrainingError: If a process ended before it was done.
        """
        ray = import_ray("Training on Ray", self.address)
        folder = RunFolder(Path(out).resolve())
        folder.check(resume=resume)
        task = {"recipe": recipe, "data": data, "out": str(folder.path), "resume": resume, "compare": compare}
        self._start(ray)
        scratch = folder.path.parent / f".{folder.path.name}.ray"
        try:
            with _told(folder, recipe, progress):
                self._train(ray, {**task, "where": os.getcwd(), "threads": self.threads}, scratch, recipe)
        finally:
            ray.shutdown()
            shutil.rmtree(scratch, ignore_errors=True)
        return Run(load(folder.path), RunRecord.load(folder.record_path), folder.history(), folder.path)

    def _start(self, ray: Any) -> None:
        if self.address is not None:
            join_cluster(ray, self.address)
            return
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(address="local", num_cpus=self.processes * self.threads, **quiet)

    def _train(self, ray: Any, task: Mapping[str, Any], scratch: Path, recipe: Recipe) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import WorkerGroupError

        is_cuda = torch.device(recipe.training.get("device", "cpu")).type == "cuda"
        reserved = {"CPU": self.threads, **({"GPU": 1} if is_cuda else {})}
        trainer = TorchTrainer(
            _train_here,
            train_loop_config={"task": ray.put(task)},
            # A few numbers a task are summed on the CPU, wherever the rest is.
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if is_cuda else "gloo"),
            scaling_config=ScalingConfig(num_workers=self.processes, use_gpu=is_cuda, resources_per_worker=reserved),
            run_config=RunConfig(name=scratch.name, storage_path=str(scratch.parent)),
        )
        try:
            trainer.fit()
        except WorkerGroupError as error:
            raise _refusal(error.worker_failures, self.processes) from error


def _train_here(config: Mapping[str, Any]) -> None:
    """In a worker, whose process group Ray has made."""
    import ray

    task = ray.get(config["task"])
    torch.set_num_threads(task["threads"])
    try:
        try:
            os.chdir(task["where"])
        except OSError as error:
            raise RecipeError(
                f"Every machine needs the folder {task['where']}, which relative paths of data files start from: "
                f"{error.strerror}."
            ) from error
        run(task["recipe"], task["data"], out=task["out"], resume=task["resume"], compare=task["compare"])
    except PolytaskError as error:
        # Errors with arguments of their own do not come through a pickle.
        kind = type(error)
        raise (PolytaskError if "__init__" in vars(kind) else kind)(str(error)) from None


def _refusal(failures: Mapping[int, BaseException], n_processes: int) -> BaseException:
    """What ended the training: what a process refused, and not that others lost it."""
    found = {rank: getattr(error, "_base_exc", error) for rank, error in sorted(failures.items())}
    refused = [error for error in found.values() if isinstance(error, PolytaskError)]
    if refused:
        return min(refused, key=lambda error: "lost another process" in str(error))
    rank, error = next(iter(found.items()))
    said = str(error).strip().splitlines() or [""]
    return TrainingError(
        f"Rank {rank} of {n_processes} on Ray ended by {type(error).__name__}: {said[0]} Nothing was written since the "
        "last checkpoint, which is whole: go on by --resume."
    )


def import_ray(who: str, address: str | None) -> Any:
    """Ray's module, imported so that it is quiet, and keeps to this machine unless a cluster is asked for.

    Raises:
        MissingExtraError: If it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")  # a busy machine takes more than a minute
    os.environ.setdefault("RAY_worker_niceness", "0")  # by Ray's own wish anything else on the machine would go first
    if address is None:
        # What keeps Ray to the loopback address; it is read when Ray is imported.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(who, "ray", "ray") from error
    return ray


def join_cluster(ray: Any, address: str) -> None:
    """Join a cluster that runs.

    Raises:
        RecipeError: If there is none.
    """
    try:
        if address != "auto":
            # Ray itself tries for minutes.
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise RecipeError(f"There is no Ray cluster at {address!r} (auto, host:port): {error}") from error


@contextmanager
def _told(folder: RunFolder, recipe: Recipe, progress: Progress | None) -> Iterator[None]:
    """Inside, progress is told each epoch that the first process adds to the history."""
    if progress is None:
        yield
        return
    done = threading.Event()
    title = f"{folder.path.name} on Ray, epochs"
    watcher = threading.Thread(target=_watch, args=(folder.history_path, done, progress), daemon=True)
    progress.start(title, int(recipe.training.get("epochs", 0)), _n_lines(folder.history_path))
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        progress.stop(f"{title}: {_n_lines(folder.history_path)} done")


def _watch(history: Path, done: threading.Event, progress: Progress) -> None:
    seen = _n_lines(history)
    while not done.wait(0.5):
        lines = history.read_text(encoding="utf-8").splitlines() if history.exists() else []
        for epoch, line in enumerate(lines[seen:], start=seen):
            validation = json.loads(line).get("validation", {}) if line.endswith("}") else {}
            progress.step(partial(dict[str, float], validation), epoch)
        seen = max(seen, len(lines))


def _n_lines(history: Path) -> int:
    return history.read_text(encoding="utf-8").count("\n") if history.exists() else 0
