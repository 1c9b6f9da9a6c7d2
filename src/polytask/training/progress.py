"""What a person sees while a training runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["Bar", "Progress", "Silent", "counted"]

_T = TypeVar("_T")


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


def counted(items: Iterable[_T], title: str, n_items: int, progress: Progress | None) -> Iterator[_T]:
    """The items, each counted as a step of something long that is no training.

    Example:
        >>> list(counted("ab", "letters", 2, Silent()))
        ['a', 'b']
    """
    if progress is None:
        yield from items
        return
    progress.start(title, n_items, 0)
    try:
        for item in items:
            yield item
            progress.step(dict, 0)
    finally:
        progress.stop("")


class Bar:
    """A progress bar on standard error, with each task's loss; redrawn at most ten times a second.

    It appears when a training has taken two seconds: before that, it would only flicker. Where standard error is no
    terminal, a line every ``seconds`` is written instead.

    Args:
        seconds: Between lines, without a terminal.
    """

    PATIENCE = 2.0

    def __init__(self, seconds: float = 10.0):
        from rich.console import Console

        self._console = Console(stderr=True)
        self._is_terminal = self._console.is_terminal
        self._seconds = seconds
        self._bar: RichProgress | None = None

    def start(self, title: str, n_steps: int, done: int) -> None:
        """Begin to count."""
        self._title, self._total, self._done = title, n_steps, done
        self._next = time.monotonic() + (self.PATIENCE if self._is_terminal else self._seconds)

    def step(self, losses: Callable[[], Mapping[str, float]], epoch: int) -> None:
        """Count a step; draw if it is time."""
        self._done += 1
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (0.1 if self._is_terminal else self._seconds)
        found = losses()
        named = [f"{name} {value:.3f}" for name, value in list(found.items())[:6]]
        text = "  ".join([*named, "..."] if len(found) > 6 else named)
        if not self._is_terminal:
            line = f"{self._title}: step {self._done} of {self._total}"
            line += f", epoch {epoch + 1}  {text}" if text else ""  # without losses, it is no training
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
            return
        if self._bar is None:
            self._bar = self._drawn()
        self._bar.update(self._bar.task_ids[0], completed=self._done, losses=text, refresh=True)

    def stop(self, message: str) -> None:
        """Remove the bar, leave one line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if message:
            self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def _drawn(self) -> RichProgress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            # As much of the losses as the line has room for.
            TextColumn(
                "{task.fields[losses]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
            ),
        )
        bar = Progress(*columns, console=self._console, auto_refresh=False, transient=True, expand=True)
        bar.add_task(self._title, total=self._total, completed=self._done, losses="")
        bar.start()
        return bar
