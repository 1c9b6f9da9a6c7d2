"""A network in a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from polytask.bundle.model import BundledModel, Reading, written
from polytask.data.batch import ArraySource
from polytask.data.reading import read_ahead
from polytask.errors import BundleError, InputError, StorageError
from polytask.models.building import build_model
from polytask.models.model import MultiTaskModel
from polytask.models.spec import ModelSpec
from polytask.shapes import Tensor
from polytask.storage import load_tree, save_tree

__all__ = ["Network"]


@dataclass
class Network(BundledModel):
    """One trained network.

    Args:
        spec: How to build it.
        model: The network itself, in evaluation mode.
        encoding: See :class:`BundledModel`.
        serves: The tasks it answers, if it has learned others only to help; all of them if empty.
        groups: Tasks that are run in passes of their own, because the last bits of an answer may depend on which tasks
            are run with it; all that are asked together if empty.
    """

    spec: ModelSpec
    model: MultiTaskModel
    encoding: str = ""
    serves: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()

    kind: ClassVar[str] = "network"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it answers."""
        return self.serves or self.model.tasks

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources whose rows it reads."""
        return tuple(self.spec.inputs)

    @property
    def n_parameters(self) -> int:
        """All its parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def passes(self, tasks: Sequence[str]) -> list[list[str]]:
        """The tasks as they are run together: whoever calls the network itself keeps to this."""
        by_pass = [[task for task in group if task in tasks] for group in self.groups or (tuple(tasks),)]
        return [together for together in by_pass if together]

    @torch.inference_mode()
    def outputs(self, inputs: ArraySource, tasks: Sequence[str], piece: int = 1024) -> dict[str, Tensor]:
        """Outputs of the heads for all rows, the shared part run once for all the tasks asked.

        Raises:
            InputError: If the inputs do not have the shape that the network was built for.
        """
        if inputs.name not in self.spec.inputs:
            raise InputError(f"This model knows the sources {sorted(self.spec.inputs)}; got rows of {inputs.name!r}.")
        device = next(self.model.parameters()).device
        if self.model.training:  # going through all modules takes longer than one row through the network
            self.model.eval()
        parts: dict[str, list[Tensor]] = {task: [] for task in tasks}
        starts = range(0, max(len(inputs), 1), piece)
        asked = ((inputs, torch.arange(start, min(start + piece, len(inputs)))) for start in starts)
        for batch in (read.to(device) for read in read_ahead(asked, depth=1)):
            self.spec.inputs[inputs.name].check(batch.inputs, "This model")
            for together in self.passes(tasks):
                for task, out in self.model(batch.inputs, together, batch.source).items():
                    parts[task].append(out.cpu())
        return {task: torch.cat(part) for task, part in parts.items()}

    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """The parameters as safetensors."""
        path = folder / f"{name}.safetensors"
        save_tree(path, dict(self.model.state_dict()))
        served: dict[str, Any] = {"serves": list(self.serves)} if self.serves else {}
        if self.groups:
            served["groups"] = [list(group) for group in self.groups]
        return written(path, spec=self.spec.to_json(), **served)

    @classmethod
    def read(cls, entry: Mapping[str, Any], reading: Reading) -> Self:
        """Build the network and put the parameters in."""
        path = reading.file(entry)
        spec = ModelSpec.from_json(entry["spec"])
        model = build_model(spec, reading.module)
        try:
            model.load_state_dict(load_tree(path))
        except (StorageError, RuntimeError) as error:
            raise BundleError(f"{path} does not fit the model that the bundle describes: {error}") from error
        serves = tuple(entry.get("serves", ()))
        if not set(serves) <= set(model.tasks):
            raise BundleError(f"{path} serves tasks that its network has not learned: {sorted(set(serves))}.")
        groups = tuple(tuple(group) for group in entry.get("groups", ()))
        return cls(spec, model.eval(), serves=serves, groups=groups)
