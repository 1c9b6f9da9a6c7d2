"""The contract of a model in a bundle: encoded rows in, outputs of the tasks' heads out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from polytask.data.batch import ArraySource
from polytask.errors import BundleError
from polytask.shapes import Tensor
from polytask.storage import sha256
from polytask.tasks.task import Task

__all__ = ["BundledModel", "Reading"]


@dataclass(frozen=True)
class Reading:
    """What a model is read with, besides its own entry.

    Args:
        folder: The bundle's folder.
        tasks: The bundle's tasks by name.
        module: The user's network, if the encoder was one.
    """

    folder: Path
    tasks: Mapping[str, Task]
    module: nn.Module | None = None

    def file(self, entry: Mapping[str, Any]) -> Path:
        """The model's file, once it is sure that it is the one that was written.

        Raises:
            BundleError: If it is missing or was changed.
        """
        path = self.folder / Path(entry["file"]).name
        if not path.exists() or sha256(path) != entry["sha256"]:
            raise BundleError(f"{path} is missing, damaged or altered: its checksum does not match the bundle's.")
        return path


class BundledModel(ABC):
    """One trained model of a bundle; serves one task or several.

    Every model answers with outputs as the tasks' heads give them, whatever it is, so that all are decoded and scored
    by the tasks in the same way.
    """

    kind: ClassVar[str]
    encoding: str = ""
    """Which of a source's transforms encodes its rows; empty for the source's first one."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """The tasks it answers."""

    @property
    @abstractmethod
    def sources(self) -> tuple[str, ...]:
        """The sources whose rows it reads."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Numbers that it learned."""

    @abstractmethod
    def outputs(self, inputs: ArraySource, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Outputs ``[N, O]`` of each of the tasks asked, on the CPU.

        Raises:
            InputError: If the inputs do not have the shape that the model was trained on.
        """

    @abstractmethod
    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """Write the model's file and give the entry that :meth:`read` needs, ``file`` and ``sha256`` among it."""

    @classmethod
    @abstractmethod
    def read(cls, entry: Mapping[str, Any], reading: Reading) -> Self:
        """Take back what :meth:`write` gave; runs no code of the file.

        Raises:
            BundleError: If the file does not fit the entry.
        """

    def transform_of(self, source: str) -> str:
        """Name of the transform that encodes a source's rows for this model."""
        return f"{source} ({self.encoding})" if self.encoding else source


def written(path: Path, **entry: Any) -> dict[str, Any]:
    """An entry with the file's name and checksum."""
    return {**entry, "file": path.name, "sha256": sha256(path)}
