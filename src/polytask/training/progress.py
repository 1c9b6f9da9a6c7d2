"""What a person sees while a training runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

__all__ = ["Bar", "Progress", "Silent"]


class Progress(Protocol):
    """Told about each step and each epoch."""

    def start(self, title: str, n_steps: int, done: int) -> None:
        """A training of ``n_steps`` begins, of which ``done`` are done."""

    def step(self, losses: Callable[[], Mapping[str, float]], epoch: int) -> None:
        """A step is done; ``losses`` gives each task's loss in it."""

    def stop(self, message: str) -> None:
        """The training ended."""


class Silent:
    """Shows nothing."""

    def start(self, title: str, n_steps: int, done: int) -> None:
        """Nothing."""

    def step(self, losses: Callable[[], Mapping[str, float]], epoch: int) -> None:
        """Nothing."""

    def stop(self, message: str) -> None:
        """Nothing."""


class Bar:
    """A progress bar on standard error, with each task's loss; redrawn at most ten times a second.

    Where standard error is no terminal, a line every ``seconds`` is written instead.

    Args:
        seconds: Between lines, without a terminal.
    """

    def __init__(self, seconds: float = 10.0):
        from rich.console import Console

        self._console = Console(stderr=True)
        self._seconds = seconds if not self._console.is_terminal else 0.1
        self._shown = 0.0

    def start(self, title: str, n_steps: int, done: int) -> None:
        """Draw the empty bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        self._bar = RichProgress(*columns, console=self._console, auto_refresh=False, transient=True)
        self._id = self._bar.add_task(title, total=n_steps, completed=done, losses="")
        self._title, self._total, self._done = title, n_steps, done
        self._shown = time.monotonic()
        if self._console.is_terminal:
            self._bar.start()

    def step(self, losses: Callable[[], Mapping[str, float]], epoch: int) -> None:
        """Count a step; draw if it is time."""
        self._done += 1
        now = time.monotonic()
        if now - self._shown < self._seconds:
            return
        self._shown = now
        found = losses()
        named = [f"{name} {value:.3f}" for name, value in list(found.items())[:6]]
        text = "  ".join([*named, "..."] if len(found) > 6 else named)
        if self._console.is_terminal:
            self._bar.update(self._id, completed=self._done, losses=text, refresh=True)
        else:
            self._console.print(
                f"{self._title}: step {self._done} of {self._total}, epoch {epoch}  {text}", highlight=False
            )

    def stop(self, message: str) -> None:
        """Remove the bar, leave one line."""
        if self._console.is_terminal:
            self._bar.stop()
        if message:
            self._console.print(message, highlight=False)
