"""The processes of a data-parallel training: who they are, what each reads, and how they agree."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from polytask import errors
from polytask.balancing.peers import Peers, summed_list
from polytask.errors import PolytaskError, TrainingError
from polytask.shapes import Int, Tensor
from polytask.storage import load_tree

__all__ = ["Ranks", "here", "joined"]

RENDEZVOUS = "POLYTASK_RENDEZVOUS"
"""Where the processes that ``polytask fit --processes`` starts meet; torchrun has its own place."""


class Ranks:
    """One of the processes that train one network together; a single one without a group.

    Each process draws the same batches and reads its own part of their rows, and all of them change their parameters
    in the same way, so that what one process would know of the training they all know. Every method that talks to the
    others has to be called by all of them, in the same order.

    Args:
        group: The process group, or ``None``.

    Example:
        >>> alone = Ranks()
        >>> alone.size, alone.share(torch.arange(5))[0].tolist(), alone.by_first(lambda: 3)
        (1, [0, 1, 2, 3, 4], 3)
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, rows: Int[Tensor, " B"]) -> tuple[Int[Tensor, " b"], float]:
        """The rows of a draw that this process reads, and which part of the draw they are.

        Parts differ by one row at most. No process reads a single row of several, from which batch normalisation could
        not learn: with fewer than two rows a process some are idle, and read two that count for nothing.
        """
        if self.group is None:
            return rows, 1.0
        busy = min(self.size, max(len(rows) // 2, 1))
        if self.rank >= busy:
            return rows[:2], 0.0
        mine = rows.tensor_split(busy)[self.rank]
        return mine, len(mine) / len(rows)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        if self.group is not None:
            dist.all_reduce(values, group=self.group)
        return values

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in some process."""
        if self.group is None:
            return list(flags)
        return [count > 0 for count in self.sum(torch.tensor([float(flag) for flag in flags])).tolist()]

    def by_first(self, does: Callable[[], Any]) -> Any:
        """What ``does`` gives in the first process, which alone calls it; JSON values only.

        Raises:
            PolytaskError: In all processes, if it is raised in the first.
        """
        if self.group is None:
            return does()
        said: dict[str, Any] = {}
        if self.is_first:
            try:
                said = {"value": does()}
            except PolytaskError as error:
                said = {"error": type(error).__name__, "text": str(error)}
                self._tell(json.dumps(said).encode())
                raise
        said = json.loads(self._tell(json.dumps(said).encode()))
        if "error" in said:
            kind = getattr(errors, said["error"], PolytaskError)
            raise (PolytaskError if "__init__" in vars(kind) else kind)(said["text"])
        return said["value"]

    def tree_of_first(self, path: Path) -> Any:
        """A tree of tensors that the first process has a file of; ``None`` if there is no such file.

        Raises:
            StorageError: In the first process, if the file is damaged.
        """
        if self.group is None:
            return load_tree(path) if path.exists() else None
        if not self.by_first(path.exists):
            return None
        if self.is_first:
            self.by_first(lambda: bool(load_tree(path)))  # what cannot be read is said before it is sent
            self._tell(path.read_bytes())
            return load_tree(path)
        self.by_first(bool)
        with tempfile.TemporaryDirectory() as folder:
            received = Path(folder) / path.name
            received.write_bytes(self._tell(b""))
            return load_tree(received)

    def _tell(self, message: bytes) -> bytes:
        """The first process's message."""
        length = torch.tensor([len(message) if self.is_first else 0])
        dist.broadcast(length, 0, group=self.group)
        held = torch.zeros(int(length), dtype=torch.uint8)
        if self.is_first and message:
            held = torch.frombuffer(bytearray(message), dtype=torch.uint8)
        dist.broadcast(held, 0, group=self.group)
        return held.numpy().tobytes()

    def gather(self, tensor: Tensor, n_rows: list[int] | None = None) -> list[Tensor]:
        """This tensor of every process; ``n_rows`` are their numbers of rows, if these are not all the same."""
        if self.group is None:
            return [tensor]
        counts = n_rows or [len(tensor)] * self.size
        plain = tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
        padded = plain.new_zeros(max(counts), *plain.shape[1:])
        padded[: len(plain)] = plain
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded, group=self.group)
        return [part[:count].view(tensor.dtype) for part, count in zip(found, counts, strict=True)]

    def part_ways(self, seed: int) -> None:
        """From here on the processes draw different dropout masks; what they draw in common is drawn before."""
        if self.rank:
            torch.manual_seed(self.own_seed(seed))

    def own_seed(self, *stream: int) -> int:
        """A seed for what every process draws for itself; that of a single process for the first."""
        (seed,) = np.random.SeedSequence([*stream, *([self.rank] if self.rank else [])]).generate_state(1, np.uint64)
        return int(seed) >> 1

    @torch.no_grad()
    def mean_statistics(self, model: nn.Module) -> None:
        """Give all processes the mean of their running statistics of batch normalisation.

        Each process normalises by its own rows, as the many smaller batches that they are.
        """
        if self.group is None:
            return
        held = [
            statistic
            for module in model.modules()
            if isinstance(module, _BatchNorm) and module.training
            for statistic in (module.running_mean, module.running_var)
            if statistic is not None
        ]
        if held:
            flat = self.sum(torch.cat([statistic.flatten() for statistic in held])) / self.size
            for statistic, mean in zip(held, flat.split([s.numel() for s in held]), strict=True):
                statistic.copy_(mean.view_as(statistic))

    def sum_of(self, term: Tensor | None, parameters: Sequence[Tensor]) -> Tensor | None:
        """A term whose gradient is the sum over the processes of their terms' gradients.

        Args:
            term: What this process adds; ``None``, or a number without a gradient, if it is nothing.
            parameters: In the same order everywhere. Those that no process reaches have no gradient in the sum either.
        """
        if self.group is None:
            return term
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if term is not None and term.requires_grad:
            found = torch.autograd.grad(term, parameters, allow_unused=True)
        sums = summed_list(found, parameters, Peers(self.group))
        parts = [(p * total).sum() for p, total in zip(parameters, sums, strict=True) if total is not None]
        return torch.stack(parts).sum() if parts else None

    def check_same(self, what: str, *parts: Any) -> None:
        """Compare tensors and plain values over the processes.

        Raises:
            TrainingError: In all processes, if they are not the same everywhere.
        """
        if self.group is None:
            return
        digest = hashlib.sha256()
        for part in parts:
            if isinstance(part, Tensor):
                digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            else:
                digest.update(json.dumps(part, sort_keys=True, default=str).encode())
        mine = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
        first, *rest = self.gather(mine)
        others = [rank for rank, its in enumerate(rest, start=1) if not torch.equal(its, first)]
        if others:
            raise TrainingError(
                f"Rank {others[0]} has not the same {what} as rank 0, so that they cannot train one network. Give all "
                "processes the same files, the same versions of the packages and the same arguments."
            )


_HERE: ContextVar[Ranks | None] = ContextVar("ranks", default=None)
_ALONE = Ranks()


def here() -> Ranks:
    """The processes that the present training is shared by; a single one outside of :func:`joined`."""
    return _HERE.get() or _ALONE


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """Inside, trainings are shared by the processes that ``torchrun`` (or ``polytask fit --processes``) started.

    Without such processes nothing changes. A process group that exists already is used.

    Args:
        device: Where the training runs; on an accelerator each process takes the one of its local rank.

    Raises:
        TrainingError: If another process ended while this one waited for it.
    """
    if _HERE.get() is not None or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 and _HERE.get() is None:
            with _as_here(Ranks(dist.group.WORLD)) as ranks:
                yield ranks
        else:
            yield here()
        return
    made = not dist.is_initialized()
    if made:
        _meet(device)
    try:
        with _as_here(Ranks(dist.group.WORLD)) as ranks:
            yield ranks
    finally:
        if made:
            dist.destroy_process_group()


def _meet(device: str) -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "gloo"
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"
    place = os.environ.get(RENDEZVOUS)
    where: dict[str, Any] = {"init_method": f"file://{place}", "rank": rank, "world_size": size} if place else {}
    dist.init_process_group(backend, **where)


@contextmanager
def _as_here(ranks: Ranks) -> Iterator[Ranks]:
    token = _HERE.set(ranks)
    try:
        yield ranks
    except RuntimeError as error:
        if isinstance(error, PolytaskError) or not _is_lost(error):
            raise
        raise TrainingError(
            f"Rank {ranks.rank} of {ranks.size} lost another process, which ended before it was done; that process "
            "says why. Nothing was written since the last checkpoint, which is whole: go on by --resume."
        ) from error
    finally:
        _HERE.reset(token)


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed by peer" in str(error)
