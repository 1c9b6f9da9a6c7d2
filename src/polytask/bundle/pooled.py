"""One network with one head that answers several tasks in a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from polytask.bundle.model import BundledModel, Reading
from polytask.bundle.network import Network
from polytask.data.batch import ArraySource
from polytask.shapes import Tensor
from polytask.tasks.task import Task, task_from_options

__all__ = ["Pooled"]


@dataclass
class Pooled(BundledModel):
    """A network of one task whose answer, in the user's units, is that of several tasks.

    Args:
        network: The network.
        task: The task that it was trained on, fitted.
        served: The tasks that it answers, fitted.
        encoding: See :class:`BundledModel`.
    """

    network: Network
    task: Task
    served: Sequence[Task]
    encoding: str = ""

    kind: ClassVar[str] = "pooled"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it answers."""
        return tuple(task.name for task in self.served)

    @property
    def sources(self) -> tuple[str, ...]:
        """The network's."""
        return self.network.sources

    @property
    def n_parameters(self) -> int:
        """The network's."""
        return self.network.n_parameters

    def outputs(self, inputs: ArraySource, tasks: Sequence[str]) -> dict[str, Tensor]:
        """The network's answer, in the outputs of each task."""
        answer = self.task.decode(self.network.outputs(inputs, [self.task.name])[self.task.name])
        return {task.name: task.outputs_from(answer).float() for task in self.served if task.name in tasks}

    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """The network's file."""
        return {
            **self.network.write(folder, name),
            "task": {"options": self.task.options(), "state": self.task.state()},
            "tasks": list(self.tasks),
        }

    @classmethod
    def read(cls, entry: Mapping[str, Any], reading: Reading) -> Self:
        """Read the network and its task."""
        task = task_from_options(entry["task"]["options"])
        task.load_state(entry["task"]["state"])
        return cls(Network.read(entry, reading), task, [reading.tasks[name] for name in entry["tasks"]])
