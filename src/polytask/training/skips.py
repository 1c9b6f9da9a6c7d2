"""A task whose loss is NaN or infinite in a batch: left out of that step, counted, a few times in a row at most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from polytask.errors import NonFiniteError
from polytask.shapes import Tensor

__all__ = ["Skips"]


@dataclass
class Skips:
    """Counts of batches that a task was left out of; plain numbers, part of the checkpoint.

    Args:
        total: By task, in the whole training.
        in_a_row: By task, since its loss was last a number.
    """

    total: dict[str, int] = field(default_factory=dict)
    in_a_row: dict[str, int] = field(default_factory=dict)

    def leave_out(self, error: NonFiniteError, losses: dict[str, Tensor | None], most: int, where: str) -> None:
        """Take the tasks that the error names out of the losses.

        Raises:
            NonFiniteError: If the error names no task, none is left, or one was left out ``most`` times in a row.
        """
        left = [name for name, loss in losses.items() if loss is not None and name not in error.tasks]
        for name in error.tasks:
            self.total[name] = self.total.get(name, 0) + 1
            self.in_a_row[name] = self.in_a_row.get(name, 0) + 1
        worst = max(error.tasks, key=lambda name: self.in_a_row[name], default="")
        if not error.tasks or not left or most == 0:
            raise NonFiniteError(f"{where}: {error}", error.tasks) from error
        if self.in_a_row[worst] > most:
            raise NonFiniteError(
                f"{where}: {error} It is the batch number {self.in_a_row[worst]} in a row in which task {worst!r} had "
                f"to be left out ({self.total[worst]} in all), so this is no single bad row: look at its labels, its "
                "inputs, and its head's size.",
                error.tasks,
            ) from error
        for name in error.tasks:
            losses[name] = None

    def were_numbers(self, tasks: Iterable[str]) -> None:
        """These tasks took part in the step."""
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
            Task 'a': its loss was NaN or infinite in 3 batches, which were left out for it. It has the constraints ...
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
            note = f"Task {name!r}: its loss was NaN or infinite in {count} batches, which were left out for it."
            if mine := by_task.get(name):
                what = "the constraint" if len(mine) == 1 else "the constraints"
                note += f" It has {what} {', '.join(mine)}, which other batches alone speak for."
            found.append(note)
        return found
