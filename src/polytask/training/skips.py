"""A task whose loss is no number, or exploded, in a batch: left out of that step, counted; a few times in a row."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from polytask.errors import ExplodedError, NonFiniteError
from polytask.shapes import Tensor

__all__ = ["Skips"]


_FIRST = 32
"""So many losses of a task tell what they usually are, before any can be called exploded."""
_PACE = 1.05
"""The factor by which a loss above or below the running median moves it, so that no single one carries it far."""


@dataclass
class Skips:
    """Counts of batches that a task was left out of; plain numbers, part of the checkpoint.

    What a task's loss usually is, is a running median of its size, never below the median of its first losses. So a
    task that has learned nearly everything may still err, and one whose losses rise slowly may go on.

    Args:
        total: By task, in the whole training.
        in_a_row: By task, since its loss was last a number.
        first: By task, the sizes of its first losses; empty once their median is known.
        usual: By task, the median of the first, and the running one, which never is below it.

    Example:
        >>> skips = Skips()
        >>> for _ in range(40):
        ...     skips.look(["a", "b"], [1.0, 3.0], most=1e4)
        >>> try:
        ...     skips.look(["a", "b"], [9e3, 4e4], most=1e4)
        ... except ExplodedError as error:
        ...     print(error)
        The loss of task 'b' (40000) is over 10000 times what it usually was (3), so no gradient was taken.
    """

    total: dict[str, int] = field(default_factory=dict)
    in_a_row: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[float]] = field(default_factory=dict)
    usual: dict[str, list[float]] = field(default_factory=dict)

    def copy(self) -> Skips:
        """The counts as they are now."""
        first, usual = ({name: [*found] for name, found in held.items()} for held in (self.first, self.usual))
        return Skips(dict(self.total), dict(self.in_a_row), first, usual)

    def look(self, tasks: Sequence[str], values: Sequence[float], most: float) -> None:
        """See whether a loss exploded, and learn from those that did not.

        Args:
            tasks: Names of the tasks of a step.
            values: Their losses, all of them numbers.
            most: How many times the usual is too much; never, if 0.

        Raises:
            ExplodedError: If a loss is more than so many times what it usually was.
        """
        if not most:
            return
        pairs = [(name, abs(value)) for name, value in zip(tasks, values, strict=True)]
        bad = {n: v for n, v in pairs if n in self.usual and v > most * self.usual[n][1] > 0.0}
        if bad:
            told = ", ".join(
                f"{name!r} ({value:g}) is over {most:g} times what it usually was ({self.usual[name][1]:g})"
                for name, value in bad.items()
            )
            raise ExplodedError(f"The loss of task {told}, so no gradient was taken.", tuple(bad))
        for name, value in pairs:
            if name in self.usual:
                lowest, usual = self.usual[name]
                self.usual[name][1] = usual * _PACE if value > usual else max(usual / _PACE, lowest)
                continue
            first = self.first.setdefault(name, [])
            first.append(value)
            if len(first) == _FIRST:
                self.usual[name] = [statistics.median(self.first.pop(name))] * 2

    def leave_out(
        self, error: NonFiniteError, losses: dict[str, Tensor | None], present: Iterable[str], most: int, where: str
    ) -> None:
        """Take the tasks that the error names out of the losses.

        Args:
            error: Names them.
            losses: What this process has losses of.
            present: What any process has losses of.
            most: How often in a row a task may be left out.
            where: The step in words.

        Raises:
            NonFiniteError: If the error names no task, none is left, or one was left out ``most`` times in a row.
        """
        left = [name for name in present if name not in error.tasks]
        for name in error.tasks:
            self.total[name] = self.total.get(name, 0) + 1
            self.in_a_row[name] = self.in_a_row.get(name, 0) + 1
        worst = max(error.tasks, key=lambda name: self.in_a_row[name], default="")
        if not error.tasks or not left or most == 0:
            raise NonFiniteError(f"{where}: {error}", error.tasks) from error
        if self.in_a_row[worst] > most:
            raise NonFiniteError(
                f"{where}: {error} It is the batch number {self.in_a_row[worst]} in a row in which task {worst!r} had "
                f"to be left out ({self.total[worst]} in all), so that it is more than a single bad row: look for "
                "extreme values among its labels and inputs.",
                error.tasks,
            ) from error
        for name in error.tasks:
            losses[name] = None

    def were_numbers(self, tasks: Iterable[str]) -> None:
        """Reset the counts in a row of tasks that took part in the step."""
        if self.in_a_row:
            for name in tasks:
                self.in_a_row.pop(name, None)

    def notes(self, constraints: Mapping[str, str] | None = None) -> list[str]:
        """A sentence for each task that was left out somewhere, and for each constraint.

        Args:
            constraints: The task of each constraint.

        Example:
            >>> for note in Skips({"a": 3, "a.loss<=1": 2}).notes({"a.loss<=1": "a", "a.recall>=0.9": "a"}):
            ...     print(note)
            Task 'a': its loss was NaN, infinite or exploded in 3 batches, which were left out for it. Only ...
            Constraint a.loss<=1: it was NaN or infinite in 2 batches, in which nothing kept it.
        """
        by_task: dict[str, list[str]] = {}
        for constraint, task in (constraints or {}).items():
            by_task.setdefault(task, []).append(constraint)
        found = []
        for name, count in self.total.items():
            if name in (constraints or {}):
                found.append(f"Constraint {name}: it was NaN or infinite in {count} batches, in which nothing kept it.")
                continue
            note = (
                f"Task {name!r}: its loss was NaN, infinite or exploded in {count} batches, which were left out for it."
            )
            if mine := by_task.get(name):
                what = "the constraint" if len(mine) == 1 else "the constraints"
                note += f" Only the other batches count for {what} {', '.join(mine)}."
            found.append(note)
        return found
