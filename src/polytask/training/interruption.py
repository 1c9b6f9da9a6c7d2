"""Ctrl-C and termination signals: the step is finished and saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polytask.training.run_folder import RunFolder

__all__ = ["Interrupted", "Interruption", "resumable_in"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a termination signal: the step was finished and, if there is a run folder, a checkpoint written.

    Attributes:
        folder: The run folder that the message names.
    """

    folder: RunFolder | None = None

    @classmethod
    def after(cls, step: int, folder: RunFolder | None) -> Interrupted:
        """The training stops after this step, whose state is in the folder."""
        onward = f"Go on by --resume: {folder.path}." if folder else "There is no run folder to go on in."
        made = cls(f"Interrupted after step {step}. {onward}")
        made.folder = folder
        return made


@contextmanager
def resumable_in(folder: RunFolder | None) -> Iterator[None]:
    """Inside, trainings that have no folder of their own are a part of this folder's run, and are done again by it."""
    try:
        yield
    except Interrupted as stop:
        if folder is None or stop.folder is not None:
            raise
        made = Interrupted(
            "Interrupted in a further training of the run, which begins anew; all that was done before is kept. Go on "
            f"by --resume: {folder.path}."
        )
        made.folder = folder
        raise made from stop


class Interruption:
    """Notes that a stop was asked for, so that the loop can stop where nothing is lost."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    @property
    def is_asked(self) -> bool:
        """Whether to stop after the present step."""
        return self._asked.is_set()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside, the first Ctrl-C or termination only asks for a stop; a second one is as usual.

        Outside the main thread Python delivers no signals, and nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

        def ask(number: int, frame: Any) -> None:
            self._asked.set()
            signal.signal(number, before[number])

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
