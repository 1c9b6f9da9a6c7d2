"""Rows of many clients through the model together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np

from polytask.errors import PolytaskError
from polytask.serving.answers import Answers, joined, part_of
from polytask.serving.meters import Meters
from polytask.serving.rows import Columns
from polytask.tasks.task import Prediction

__all__ = ["Batcher", "BusyError", "Predict"]

Predict: TypeAlias = Callable[[str, Columns, Sequence[str]], Answers]
"""Source, columns and tasks to answers."""

Result = TypeVar("Result")


class BusyError(Exception):
    """More requests wait than the server takes."""


@dataclass(eq=False)
class _Job:
    source: str
    columns: Columns
    n_rows: int
    tasks: tuple[str, ...]
    done: asyncio.Future[dict[str, Prediction]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batcher:
    """Puts rows that wait together into one batch, so that the model runs once for all of them and all their tasks.

    Nobody waits for a batch to fill: what came while the model was busy is the next batch. A batch that fails is done
    again, request by request, so that the rows of one client never spoil another's answer.

    Args:
        predict: The model; runs in a thread of its own, one batch at a time.
        batch_rows: Rows of a batch, at most; longer requests are cut.
        waiting: Requests that may wait, at most.
        meters: Where batches are counted.
    """

    def __init__(self, predict: Predict, batch_rows: int, waiting: int, meters: Meters):
        self._predict, self._batch_rows, self._most, self._meters = predict, batch_rows, waiting, meters
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._waiting: deque[_Job] = deque()
        self._came = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Answer those who wait, then stop."""
        while self._waiting:
            await asyncio.sleep(0.01)
        if self._worker is not None:
            self._worker.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def answer(self, source: str, columns: Columns, n_rows: int, tasks: Sequence[str]) -> dict[str, Prediction]:
        """The answers for one request's rows.

        Raises:
            BusyError: If too many wait already.
            PolytaskError: If these rows cannot be used.
        """
        if len(self._waiting) >= self._most:
            raise BusyError
        parts = []
        for start in range(0, n_rows, self._batch_rows):
            stop = min(start + self._batch_rows, n_rows)
            piece = {name: values[start:stop] for name, values in columns.items()}
            job = _Job(source, piece, stop - start, tuple(tasks))
            self._waiting.append(job)
            self._meters.waiting.set(len(self._waiting))
            self._came.set()
            parts.append(await job.done)
        return joined(parts)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Something else in the model's thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _work(self) -> None:
        while True:
            await self._came.wait()
            jobs = self._next()
            if not self._waiting:
                self._came.clear()
            if jobs:
                await self._answer(jobs)

    def _next(self) -> list[_Job]:
        """Those that can go through the model together with the first one, in the order in which they came."""
        jobs: list[_Job] = []
        others: deque[_Job] = deque()
        n_rows = 0
        while self._waiting:
            job = self._waiting.popleft()
            if job.done.done():  # its client went away
                continue
            fits = not jobs or (job.source == jobs[0].source and n_rows + job.n_rows <= self._batch_rows)
            if fits:
                jobs.append(job)
                n_rows += job.n_rows
            else:
                others.append(job)
        self._waiting = others
        self._meters.waiting.set(len(others))
        return jobs

    async def _answer(self, jobs: Sequence[_Job]) -> None:
        tasks = tuple(dict.fromkeys(task for job in jobs for task in job.tasks))
        n_rows = sum(job.n_rows for job in jobs)
        try:
            if len(jobs) == 1:
                columns = jobs[0].columns
            else:
                columns = {name: np.concatenate([job.columns[name] for job in jobs]) for name in jobs[0].columns}
            answers = await self.run(lambda: self._predict(jobs[0].source, columns, tasks))
        except Exception as error:
            if len(jobs) > 1:
                self._meters.split.inc()
                for job in jobs:
                    await self._answer([job])
            elif not jobs[0].done.done():
                jobs[0].done.set_exception(error)
                if not isinstance(error, PolytaskError):
                    self._meters.failed.inc()
            return
        self._meters.batch_rows.observe(n_rows)
        start = 0
        for job in jobs:
            if not job.done.done():
                job.done.set_result(part_of(answers, job.tasks, start, start + job.n_rows))
            start += job.n_rows
