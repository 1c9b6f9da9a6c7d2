"""The contract of an engine: units of work in, finished trials out, in whatever process they are done."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from polytask.errors import RecipeError, TrainingError
from polytask.study.bench import Bench, Done, Work
from polytask.study.threads import limited_threads, n_cores

__all__ = ["MOST_ATTEMPTS", "Engine", "answer", "first", "opened", "read"]

MOST_ATTEMPTS = 3
"""A unit whose worker died this often is not tried again."""


class Engine(ABC):
    """Carries out units of work.

    Args:
        workers: Processes at a time; as many as there are cores for if ``None``.
        threads: Threads of each; part of what decides the last digits, so that it never follows from the machine.

    Raises:
        RecipeError: If there is not at least one of each.

    Note:
        A new engine is one file in ``polytask/study/engines`` with one subclass. Whatever it is, and however many
        workers it has, the same seeds give the same trials: a unit is computed from the material alone.
    """

    def __init__(self, workers: int | None = None, threads: int = 1):
        for what, value in (("workers", workers), ("threads", threads)):
            if value is not None and value < 1:
                raise RecipeError(f"An engine needs {what} of at least 1, got {value}.")
        self.threads = threads
        self.workers = workers if workers is not None else max(n_cores() // threads, 1)
        self.deaths: list[str] = []
        """What was being done by each worker that died."""
        self.listener: Callable[[Work, str], None] = lambda *_: None
        """Told in words how far a unit is, by engines that can say."""

    @abstractmethod
    def open(self, bench: Bench) -> None:
        """Make ready to work on the bench's material, in this process or by giving the material to workers."""

    @abstractmethod
    def carry_out(self, units: Iterator[Work]) -> Iterator[tuple[Work, Done]]:
        """Units as they are finished.

        The next unit is only asked for when somebody is free to begin with it, so that what was finished before can
        decide what it is.

        Args:
            units: The units, in the order in which they are begun.

        Raises:
            TrainingError: If the worker of a unit died again and again.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop all workers at once; what they were doing is lost."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def died(self, unit: Work, attempts: int, how: str) -> None:
        """Count a worker that died.

        Raises:
            TrainingError: If the unit is not to be tried again.
        """
        self.deaths.append(str(unit))
        if attempts >= MOST_ATTEMPTS:
            raise TrainingError(
                f"The worker of {unit} died {attempts} times ({how}); the memory may not be enough. Try fewer "
                "--workers, or leave the arm out; finished trials are kept, and --resume goes on with them."
            )

    def describe(self) -> dict[str, Any]:
        """For the record."""
        return {
            "name": type(self).__name__.lower(),
            "workers": self.workers,
            "threads": self.threads,
            "deaths": list(self.deaths),
        }


def first(units: Iterator[Work]) -> tuple[Work, int] | None:
    """The next unit, which was not attempted yet; ``None`` if there is none left."""
    unit = next(units, None)
    return None if unit is None else (unit, 0)


def opened(packed: bytes, tell: Callable[[str], None] | None = None) -> Bench:
    """The bench of a worker, from the material as another process of the same study packed it."""
    return Bench(pickle.loads(packed), tell)


def answer(bench: Bench, unit: Work, threads: int) -> bytes:
    """What a worker sends back: the unit's results, or the error that it met; see :func:`read`."""
    try:
        with limited_threads(threads):
            found: Any = bench.carry_out(unit)
    except Exception as error:
        found = _sendable(error)
    return pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL)


def read(packed: bytes) -> Done | str:
    """What a worker did, or its words on how far it is; raises the error that it met."""
    found: Done | str | Exception = pickle.loads(packed)
    if isinstance(found, Exception):
        raise found
    return found


def _sendable(error: Exception) -> Exception:
    """The error, or its words where it is none that comes out of a pickle as it went in."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        return TrainingError(f"{type(error).__name__}: {error}")
    return error if type(copy) is type(error) and str(copy) == str(error) else TrainingError(str(error))
