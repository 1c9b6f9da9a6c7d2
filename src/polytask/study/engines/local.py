"""Processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from polytask.study.bench import Bench, Done, Work
from polytask.study.engine import Engine, answer, first, opened, read
from polytask.study.threads import limited_threads

__all__ = ["Local"]


class Local(Engine):
    """Processes of this machine; with one worker, this process itself.

    Args:
        workers: See :class:`~polytask.study.engine.Engine`.
        threads: See there.

    Note:
        Workers are started afresh (``spawn``): a script that uses more than one must keep its own doings under
        ``if __name__ == "__main__":``. A worker ends when the process that started it does, however that ends.
    """

    def __init__(self, workers: int | None = None, threads: int = 1):
        super().__init__(workers, threads)
        self._bench: Bench | None = None
        self._crew: list[_Worker] = []

    def open(self, bench: Bench) -> None:
        """Keep the bench; workers are started when the first unit is there."""
        self._bench = bench

    def carry_out(self, units: Iterator[Work]) -> Iterator[tuple[Work, Done]]:
        """Units as they are finished."""
        assert self._bench is not None
        if self.workers == 1:
            for unit in units:
                self._bench.tell = partial(self.listener, unit)
                with limited_threads(self.threads):
                    found = self._bench.carry_out(unit)
                yield unit, found
            return
        again: deque[tuple[Work, int]] = deque()
        while True:
            while len(busy := [w for w in self._crew if w.unit]) < self.workers:
                if (wanted := again.popleft() if again else first(units)) is None:
                    break
                self._idle().begin(wanted[0], wanted[1] + 1)
            if not busy:
                return
            for worker in wait_for(busy):
                unit, attempts = worker.task()
                if (packed := worker.received()) is None:
                    self._crew.remove(worker)
                    again.append((unit, attempts))
                    self.died(unit, attempts, f"exit code {worker.end(patience=1.0)}")
                elif isinstance(said := read(packed), str):
                    self.listener(unit, said)
                else:
                    worker.unit = None
                    yield unit, said

    def close(self) -> None:
        """Kill the workers."""
        while self._crew:
            self._crew.pop().end()

    def _idle(self) -> _Worker:
        """A worker without work; all are started when the first is needed, so that they start at the same time."""
        if not any(not worker.unit for worker in self._crew):
            started = [_Worker(self.threads) for _ in range(self.workers - len(self._crew))]
            packed = pickle.dumps(self._bench.material, protocol=pickle.HIGHEST_PROTOCOL)  # type: ignore[union-attr]
            self._crew += started
            for worker in started:
                worker.send(packed)
        return next(worker for worker in self._crew if not worker.unit)


@dataclass
class _Worker:
    """One process, and what it is doing."""

    threads: int
    unit: Work | None = None
    attempts: int = 0

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.threads), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, unit: Work, attempts: int) -> None:
        self.unit, self.attempts = unit, attempts
        self.send(pickle.dumps(unit, protocol=pickle.HIGHEST_PROTOCOL))

    def task(self) -> tuple[Work, int]:
        assert self.unit is not None
        return self.unit, self.attempts

    def send(self, packed: bytes) -> None:
        with contextlib.suppress(OSError):  # if it died, that shows as soon as an answer is waited for
            self.connection.send_bytes(packed)

    def received(self) -> bytes | None:
        """What it says, or ``None`` if it died."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def end(self, patience: float = 0.0) -> int | None:
        """Kill it, unless it is gone within this many seconds; returns how it ended."""
        self._process.join(patience)
        self._process.kill()
        self._process.join()
        self.connection.close()
        return self._process.exitcode


def wait_for(workers: list[_Worker]) -> list[_Worker]:
    """Those that have something to say, or died."""
    by_connection: dict[Any, _Worker] = {worker.connection: worker for worker in workers}
    return [by_connection[ready] for ready in wait(list(by_connection))]


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _serve(connection: Connection, threads: int) -> None:
    """The life of a worker: the material once, then unit after unit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says what happens
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        bench = opened(connection.recv_bytes(), lambda text: connection.send_bytes(pickle.dumps(text)))
        while True:
            unit: Work = pickle.loads(connection.recv_bytes())
            connection.send_bytes(answer(bench, unit, threads))
    except (EOFError, OSError, KeyboardInterrupt):
        return
