"""What one training step reads, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch

from polytask.shapes import Float, Inputs, Int, Shaped, Tensor, labelled

__all__ = ["ArraySource", "Batch", "Source", "readable"]


@dataclass(frozen=True)
class Batch:
    """Rows of one source.

    Args:
        inputs: A tensor, or one per named input; first dimension B.
        targets: Per task, ``[B, ...]``; a harmless finite value where not observed. Holds only tasks whose
            labels this source can have.
        observed: Per task, ``True`` where the label is there; the shape of the task's labels.
        source: Name of the source.
        row_weights: Factor on every loss of a row, or ``None`` for ones.
        task_weights: Per task that has its own, further factors on its losses.
        groups: Per column of groups, the code of each row's group; -1 where it has none.
        mix: If each row's inputs are a mixture of two rows, the part of the row itself; the rest is its partner's.
        partner: Then the position of each row's partner in the batch.
        unmixed: Then the inputs of the rows themselves.
        motion: If the images were moved, from places of the new to those of the old: ``(x, y)`` in pixels, from the
            left upper corner, becomes ``motion @ (x, y, 1)``.
        part: Which part of the rows of the step's batch these are, where other processes, or further pieces of the
            batch, have the rest; 0 for rows that count for nothing.
    """

    inputs: Inputs
    targets: Mapping[str, Shaped[Tensor, "B ..."]]
    observed: Mapping[str, Shaped[Tensor, "B ..."]]
    source: str
    row_weights: Float[Tensor, " B"] | None = None
    task_weights: Mapping[str, Float[Tensor, " B"]] = field(default_factory=dict)
    groups: Mapping[str, Int[Tensor, " B"]] = field(default_factory=dict)
    mix: Float[Tensor, " B"] | None = None
    partner: Int[Tensor, " B"] | None = None
    unmixed: Inputs | None = None
    motion: Float[Tensor, "B 2 3"] | None = None
    part: float = 1.0

    def __len__(self) -> int:
        first = self.inputs if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values()))
        return first.shape[0]

    def weights_of(self, task: str) -> Float[Tensor, " B"] | None:
        """All factors on the losses of a task, by row; ``None`` for ones."""
        own = self.task_weights.get(task)
        if own is None or self.row_weights is None:
            return self.row_weights if own is None else own
        return self.row_weights * own

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        def moved(inputs: Inputs) -> Inputs:
            return move(inputs) if isinstance(inputs, Tensor) else {k: move(v) for k, v in inputs.items()}

        return replace(
            self,
            inputs=moved(self.inputs),
            targets={k: move(v) for k, v in self.targets.items()},
            observed={k: move(v) for k, v in self.observed.items()},
            row_weights=None if self.row_weights is None else move(self.row_weights),
            task_weights={k: move(v) for k, v in self.task_weights.items()},
            groups={k: move(v) for k, v in self.groups.items()},
            mix=None if self.mix is None else move(self.mix),
            partner=None if self.partner is None else move(self.partner),
            unmixed=None if self.unmixed is None else moved(self.unmixed),
            motion=None if self.motion is None else move(self.motion),
        )


class Source(Protocol):
    """One data set of a run: a name, a length, and a batch for any rows."""

    @property
    def name(self) -> str:
        """The source's name, unique in a run."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose labels this source can have."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def batch(self, rows: Int[Tensor, " B"]) -> Batch:
        """The given rows."""
        ...

    def coverage(self, task: str) -> float:
        """Share of the rows whose label for the task is observed, in 0 to 1."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """A source in memory: tensors of N rows, so that a batch is one indexing operation for each tensor.

    Args:
        name: The source's name.
        inputs: ``[N, ...]``, or a dict of such tensors. Images of 8 bits stay so in memory, and become float32 in
            0 to 1 in the batch.
        targets: Per task, ``[N, ...]``.
        observed: Per task, ``[N]`` or the shape of the task's labels.
        row_weights: ``[N]``, or ``None``.
        task_weights: Per task that has its own, ``[N]``.
        groups: Per column of groups, ``[N]`` codes; -1 where a row has none.
        ranked: Per task that is also judged by how it ranks the rows of one group, such as a user's, ``[N]`` codes of
            the groups; -1 where a row has none.

    Example:
        >>> observed = torch.tensor([True, True, False, True])
        >>> source = ArraySource("table", torch.zeros(4, 2), {"a": torch.ones(4)}, {"a": observed})
        >>> len(source), source.coverage("a")
        (4, 0.75)
        >>> source.batch(torch.tensor([2, 0])).observed["a"].tolist()
        [False, True]
    """

    name: str
    inputs: Inputs
    targets: Mapping[str, Shaped[Tensor, "N ..."]] = field(default_factory=dict)
    observed: Mapping[str, Shaped[Tensor, "N ..."]] = field(default_factory=dict)
    row_weights: Float[Tensor, " N"] | None = None
    task_weights: Mapping[str, Float[Tensor, " N"]] = field(default_factory=dict)
    groups: Mapping[str, Int[Tensor, " N"]] = field(default_factory=dict)
    ranked: Mapping[str, Int[Tensor, " N"]] = field(default_factory=dict)

    is_in_memory: ClassVar[bool] = True

    @property
    def lengths(self) -> Int[Tensor, " N"] | None:
        """Number of words of each row, for sources of texts."""
        words = None if isinstance(self.inputs, Tensor) else self.inputs.get("words")
        return None if words is None else (words != 0).sum(1)

    @property
    def blocks(self) -> tuple[Sequence[int], int] | None:
        """Rows of each block, and how many are shuffled together, where the rows must be read block by block."""
        return None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose labels this source can have."""
        return tuple(self.targets)

    def __len__(self) -> int:
        first = self.inputs if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values()))
        return first.shape[0]

    def batch(self, rows: Int[Tensor, " B"]) -> Batch:
        """The given rows, one indexing operation for each tensor."""
        inputs = self.inputs
        return Batch(
            inputs=readable(inputs[rows])
            if isinstance(inputs, Tensor)
            else {k: readable(v[rows]) for k, v in inputs.items()},
            source=self.name,
            **self._of(rows),
        )

    def without_inputs(self, rows: Int[Tensor, " B"]) -> Batch:
        """The given rows for who looks at their labels only; inputs that lie elsewhere are not read."""
        return Batch(inputs={}, source=self.name, **self._of(rows))

    def _of(self, rows: Int[Tensor, " M"]) -> dict[str, Any]:
        """Labels, weights and groups of the given rows, by the names that batches and sources have for them."""
        return {
            "targets": {k: v[rows] for k, v in self.targets.items()},
            "observed": {k: v[rows] for k, v in self.observed.items()},
            "row_weights": None if self.row_weights is None else self.row_weights[rows],
            "task_weights": {k: v[rows] for k, v in self.task_weights.items()},
            "groups": {k: v[rows] for k, v in self.groups.items()},
        }

    def coverage(self, task: str) -> float:
        """Share of the rows with at least one observed label of the task."""
        return labelled(self.observed[task]).double().mean().item()

    def take(self, rows: Int[Tensor, " M"]) -> ArraySource:
        """A source of the given rows only."""
        inputs = self.inputs
        return ArraySource(
            name=self.name,
            inputs=inputs[rows] if isinstance(inputs, Tensor) else {k: v[rows] for k, v in inputs.items()},
            **self._of(rows),
            ranked={k: v[rows] for k, v in self.ranked.items()},
        )


def readable(rows: Tensor) -> Tensor:
    """Images of 8 bits as an encoder reads them; a quarter of the memory until then."""
    return rows.float().div_(255) if rows.dtype == torch.uint8 else rows
