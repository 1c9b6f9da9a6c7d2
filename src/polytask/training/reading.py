"""Reading a batch in a given time, from a source that may hang."""

from __future__ import annotations

import sys
import threading
import traceback

from polytask.data.batch import Batch, Source
from polytask.errors import HangingError
from polytask.shapes import Int, Tensor

__all__ = ["in_time"]


def in_time(source: Source, rows: Int[Tensor, " B"], seconds: float) -> Batch:
    """The batch of some rows of a source, read in a thread of its own.

    Args:
        source: The source.
        rows: Positions of the rows.
        seconds: How long that may take.

    Raises:
        HangingError: If it takes longer; names the source and the line of code where it is. What hangs cannot be
            stopped; its thread ends with the process.

    Example:
        >>> import torch
        >>> from polytask.data.batch import ArraySource
        >>> in_time(ArraySource("table", torch.ones(5, 2)), torch.arange(3), 60.0).inputs.shape
        torch.Size([3, 2])
    """
    found: list[Batch] = []
    errors: list[BaseException] = []

    def read() -> None:
        try:
            found.append(source.batch(rows))
        except BaseException as error:
            errors.append(error)

    reader = threading.Thread(target=read, name=f"reading {source.name}", daemon=True)
    reader.start()
    reader.join(seconds)
    if errors:
        raise errors[0]
    if found:
        return found[0]
    raise HangingError(
        f"Source {source.name!r} has not given a batch of {len(rows)} rows within {seconds:g} s "
        f"(training.load_seconds){_where(reader)}: what it reads from hangs, or needs more time. A checkpoint that "
        "was written before is whole; go on by --resume once it answers."
    )


def _where(reader: threading.Thread) -> str:
    """Where a thread is, in words."""
    frame = sys._current_frames().get(reader.ident or 0)
    if frame is None:
        return ""
    place = traceback.extract_stack(frame)[-1]
    return f"; it is in {place.name}, line {place.lineno} of {place.filename}"
