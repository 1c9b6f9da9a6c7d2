"""Batches read in threads of their own: while the network computes, and in a given time."""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator

from polytask.data.batch import Batch, Source
from polytask.errors import HangingError
from polytask.shapes import Int, Tensor

__all__ = ["Reading", "read_ahead"]

_CLOSING = 5.0
"""Seconds that a reading which nobody waits for any longer has to end."""


class Reading:
    """A batch that is being read, in a thread of its own or, if it costs next to nothing, when it is asked for.

    Args:
        source: The source.
        rows: Positions of the rows.
        in_thread: Whether to begin now.

    Example:
        >>> import torch
        >>> from polytask.data.batch import ArraySource
        >>> Reading(ArraySource("table", torch.ones(5, 2)), torch.arange(3)).batch(60.0).inputs.shape
        torch.Size([3, 2])
    """

    def __init__(self, source: Source, rows: Int[Tensor, " B"], in_thread: bool = True):
        self.source, self.rows = source, rows
        self._found: list[Batch] = []
        self._errors: list[BaseException] = []
        self._thread: threading.Thread | None = None
        if in_thread:
            self._thread = threading.Thread(target=self._read, name=f"reading {source.name}", daemon=True)
            self._thread.start()

    def _read(self) -> None:
        try:
            self._found.append(self.source.batch(self.rows))
        except BaseException as error:
            self._errors.append(error)

    def batch(self, seconds: float | None = None) -> Batch:
        """The batch, once it is there.

        Args:
            seconds: How long that may take.

        Raises:
            HangingError: If it takes longer; names the source and the line of code where it is. What hangs cannot be
                stopped; its thread ends with the process.
        """
        if self._thread is None:
            return self.source.batch(self.rows)
        self._thread.join(seconds)
        if self._errors:
            raise self._errors[0]
        if self._found:
            return self._found[0]
        raise HangingError(
            f"Source {self.source.name!r} has not given a batch of {len(self.rows)} rows within {seconds:g} s "
            f"(training.load_seconds){_where(self._thread)}: what it reads from hangs, or needs more time. A "
            "checkpoint that was written before is whole; go on by --resume once it answers."
        )

    def close(self) -> None:
        """Wait until nothing is read any longer, but not for what hangs."""
        if self._thread is not None:
            self._thread.join(_CLOSING)


def read_ahead(
    asked: Iterable[tuple[Source, Int[Tensor, " B"]]], depth: int, seconds: float | None = None
) -> Iterator[Batch]:
    """The batches of sources and rows in the order asked, some of which are read while an earlier one is used.

    What is in memory is read when it is its turn. An error comes up at the batch that it belongs to.

    Args:
        asked: Sources, and the rows of each.
        depth: So many batches are begun before they are needed; none, if 0.
        seconds: See :meth:`Reading.batch`.
    """
    coming: deque[Reading] = deque()
    try:
        for source, rows in asked:
            is_slow = depth > 0 and not getattr(source, "is_in_memory", True)
            coming.append(Reading(source, rows, is_slow or seconds is not None))
            if len(coming) > (depth if is_slow else 0):
                yield coming.popleft().batch(seconds)
        while coming:
            yield coming.popleft().batch(seconds)
    finally:
        for reading in coming:
            reading.close()


def _where(reader: threading.Thread) -> str:
    """Where a thread is, in words."""
    frame = sys._current_frames().get(reader.ident or 0)
    if frame is None:
        return ""
    place = traceback.extract_stack(frame)[-1]
    return f"; it is in {place.name}, line {place.lineno} of {place.filename}"
