"""Linear models in a bundle: a matrix of coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from polytask.bundle.columns import input_matrix
from polytask.bundle.model import BundledModel, Reading, written
from polytask.data.batch import ArraySource
from polytask.errors import BundleError, InputError
from polytask.shapes import Tensor
from polytask.storage import load_tree, save_tree

__all__ = ["Lines"]


@dataclass
class Lines(BundledModel):
    """Linear models of one or several tasks: outputs are ``X @ coefficients.T + intercepts``.

    Args:
        source: The source whose rows it reads.
        widths: Number of outputs of each task.
        coefficients: ``[outputs of all tasks, inputs]``.
        intercepts: ``[outputs of all tasks]``.
        cardinalities: See :func:`~polytask.bundle.columns.input_matrix`.
        encoding: See :class:`BundledModel`.
    """

    source: str
    widths: Mapping[str, int]
    coefficients: np.ndarray
    intercepts: np.ndarray
    cardinalities: tuple[int, ...] = ()
    encoding: str = ""

    kind: ClassVar[str] = "lines"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it answers."""
        return tuple(self.widths)

    @property
    def sources(self) -> tuple[str, ...]:
        """The one source."""
        return (self.source,)

    @property
    def n_parameters(self) -> int:
        """Coefficients that are not zero, and intercepts."""
        return int(np.count_nonzero(self.coefficients)) + len(self.intercepts)

    def outputs(self, inputs: ArraySource, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of the tasks asked."""
        matrix = input_matrix(inputs.inputs, self.cardinalities).astype(np.float64)
        if matrix.shape[1] != self.coefficients.shape[1]:
            raise InputError(
                f"The linear models of this bundle read {self.coefficients.shape[1]} inputs, got {matrix.shape[1]}."
            )
        everything = matrix @ self.coefficients.T + self.intercepts
        ends = dict(zip(self.widths, np.cumsum(list(self.widths.values())), strict=True))
        return {
            task: torch.from_numpy(everything[:, ends[task] - self.widths[task] : ends[task]].astype(np.float32))
            for task in tasks
        }

    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """Coefficients and intercepts as safetensors."""
        path = folder / f"{name}.safetensors"
        save_tree(path, {"coefficients": self.coefficients, "intercepts": self.intercepts})
        return written(path, source=self.source, widths=dict(self.widths), cardinalities=list(self.cardinalities))

    @classmethod
    def read(cls, entry: Mapping[str, Any], reading: Reading) -> Self:
        """Read the coefficients."""
        path = reading.file(entry)
        tree = load_tree(path)
        n_outputs = sum(entry["widths"].values())
        if tree["coefficients"].shape[:1] != (n_outputs,) or tree["intercepts"].shape != (n_outputs,):
            raise BundleError(f"{path} does not hold {n_outputs} linear models, as the bundle says.")
        return cls(
            entry["source"],
            entry["widths"],
            tree["coefficients"],
            tree["intercepts"],
            tuple(entry["cardinalities"]),
        )
