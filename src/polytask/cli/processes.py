"""Several processes that train one network: started here, or by torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from polytask.cli.terminal import fail
from polytask.errors import RecipeError

__all__ = ["is_first", "refuse_several", "run_again"]

TOGETHER = ("fit", "info")
"""The verbs that several processes can do together, or that do nothing twice."""
_GRACE = 30.0
"""Seconds that processes have to end by themselves when one of them is gone."""


def is_first() -> bool:
    """Whether this process is the one that prints."""
    return os.environ.get("RANK", "0") == "0"


def refuse_several(verb: str) -> None:
    """Stop before several processes do the same thing beside each other.

    Raises:
        RecipeError: If torchrun started this process, and the verb is not one for it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and verb and verb not in TOGETHER:
        raise RecipeError(
            f"polytask {verb} is no training that processes can share: start it without torchrun. It has its own "
            "ways to use several processors where that helps (see --help)."
        )


def run_again(n_processes: int) -> int:
    """Run this command line in so many processes that train one network; gives the exit status.

    The first process prints. The first Ctrl-C reaches all of them, which finish the step and save; when one dies, the
    others are ended.

    Raises:
        RecipeError: If this process is one of several already.
    """
    if "RANK" in os.environ:
        raise RecipeError("This is one of several processes already: give --processes or use torchrun, not both.")
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / f"{rank}.txt" for rank in range(n_processes)]
        ranks = [_start(rank, n_processes, Path(folder) / "meeting", outputs[rank]) for rank in range(n_processes)]
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            # The terminal sends Ctrl-C to all of them; a termination is sent to this process alone.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda number, frame: _send(ranks, signal.SIGTERM))
            first_gone = _wait(ranks)
        finally:
            _send(ranks, signal.SIGKILL)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return _say_how(ranks, first_gone, outputs)


def _start(rank: int, n_processes: int, meeting: Path, output: Path) -> subprocess.Popen[bytes]:
    threads = max((os.cpu_count() or 1) // n_processes, 1)
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(n_processes),
        "POLYTASK_RENDEZVOUS": str(meeting),
    }
    command = [sys.executable, "-m", "polytask", *_without_processes(sys.argv[1:])]
    if rank == 0:
        return subprocess.Popen(command, env=environment)
    with output.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, stdin=subprocess.DEVNULL)


def _without_processes(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    given = iter(arguments)
    for argument in given:
        if argument == "--processes":
            next(given, None)
        elif not argument.startswith("--processes="):
            kept.append(argument)
    return kept


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait for all; gives the first one that did not end well, after which the others have a while to end."""
    first_gone: int | None = None
    deadline = float("inf")
    while any(process.poll() is None for process in ranks):
        gone = [rank for rank, process in enumerate(ranks) if process.poll() not in (None, 0)]
        if gone and first_gone is None:
            # One that was killed is the cause, and those that noticed it are not.
            first_gone = next((rank for rank in gone if (ranks[rank].returncode or 0) < 0), gone[0])
            deadline = time.monotonic() + _GRACE
        if time.monotonic() > deadline:
            _send(ranks, signal.SIGKILL)
        time.sleep(0.05)
    bad = [rank for rank, process in enumerate(ranks) if process.returncode]
    killed = [rank for rank in bad if (ranks[rank].returncode or 0) < 0 and first_gone is None]
    return first_gone if first_gone is not None else next(iter([*killed, *bad]), None)


def _send(ranks: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in ranks:
        if process.poll() is None:
            process.send_signal(number)


def _say_how(ranks: Sequence[subprocess.Popen[bytes]], first_gone: int | None, outputs: Sequence[Path]) -> int:
    """The exit status of all, and what the process said that ended first, if the first process did not say it."""
    if first_gone is None:
        return 0
    status = ranks[first_gone].returncode
    if status < 0:
        name = signal.Signals(-status).name
        fail(
            f"Rank {first_gone} of {len(ranks)} was ended by {name}, so all of them were. What was saved is whole: "
            "with --out, go on by the same command and --resume."
        )
        return 2
    if first_gone > 0 and ranks[0].returncode != status:
        said = outputs[first_gone].read_text(encoding="utf-8", errors="replace").strip().splitlines()
        fail(f"Rank {first_gone}: {said[-1].removeprefix('polytask: ') if said else f'ended with status {status}'}")
    return int(status)
