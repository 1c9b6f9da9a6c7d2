"""Torch map-style data sets as sources: in memory if they fit, batch by batch otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from polytask.data.batch import Batch, Source
from polytask.data.labels import encode_labels, has_labels, labels_from
from polytask.data.sources import array_source
from polytask.errors import InputError, TargetError
from polytask.shapes import Inputs, Int, Tensor, labelled, object_array
from polytask.tasks.task import Task

__all__ = ["DatasetContents", "DatasetSource", "read_dataset"]

Adapter: TypeAlias = Callable[[Any], tuple[Any, Any]]
"""An item to its inputs (an array, or a dict of arrays) and its labels (by target, or in the order of the targets)."""

_MEMORY = 2 * 2**30


class MapDataset(Protocol):
    """What is asked of a data set: a length, and items by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class DatasetContents:
    """What one pass over a data set found.

    Args:
        dataset: The data set.
        adapter: Item to inputs and labels.
        inputs: All inputs stacked, or ``None`` if they stay in the data set.
        labels: By target, ``[N]``; what tasks are fitted on.
    """

    dataset: MapDataset
    adapter: Adapter
    inputs: Any
    labels: dict[str, np.ndarray]

    def source(self, name: str, tasks: Sequence[Task]) -> Source:
        """The source, with the labels of the fitted tasks."""
        if self.inputs is not None:
            return array_source(name, self.inputs, self.labels, tasks)
        found = {
            task.name: labels_from(self.labels, task) for task in tasks if has_labels(task, name, list(self.labels))
        }
        return DatasetSource(name, self.dataset, self.adapter, *encode_labels(found, tasks))


@dataclass(frozen=True)
class DatasetSource:
    """A source that stays in its data set: the items of a batch are read when it is asked for.

    Args:
        name: The source's name.
        dataset: The data set.
        adapter: Item to inputs and labels; the labels are not looked at again.
        targets: Per task, ``[N, ...]``.
        observed: Per task, ``[N]`` or the shape of the task's labels.
    """

    name: str
    dataset: MapDataset
    adapter: Adapter
    targets: Mapping[str, Tensor]
    observed: Mapping[str, Tensor]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose labels this source can have."""
        return tuple(self.targets)

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, rows: Int[Tensor, " B"]) -> Batch:
        """The given rows.

        Raises:
            InputError: If an item's inputs have another shape than the first's.
        """
        items = [_numpy_inputs(self.adapter(self.dataset[row])[0]) for row in rows.tolist()]
        return Batch(
            inputs=_to_tensors(_stacked(items, rows.tolist())),
            targets={task: values[rows] for task, values in self.targets.items()},
            observed={task: values[rows] for task, values in self.observed.items()},
            source=self.name,
        )

    def coverage(self, task: str) -> float:
        """Share of the rows with at least one observed label of the task."""
        return labelled(self.observed[task]).double().mean().item()


def read_dataset(
    dataset: MapDataset,
    tasks: Sequence[Task],
    adapter: Adapter | None = None,
    in_memory: bool | None = None,
) -> DatasetContents:
    """Go once through a data set, for its labels and, if they fit in memory, its inputs.

    Args:
        dataset: A map-style data set of torch, or anything with a length and items by number.
        tasks: The tasks; they need not be fitted.
        adapter: Item to inputs and labels; by default an item is such a pair.
        in_memory: Whether to keep the inputs; if ``None``, they are kept if they take less than 2 GiB.

    Raises:
        InputError: If the data set is empty, or its items differ in shape.
        TargetError: If an item's labels do not fit the tasks' targets.

    Example:
        >>> from polytask.data import fit_tasks
        >>> from polytask.tasks import Regression
        >>> items = [(torch.ones(3), 1.0), (torch.zeros(3), float("nan")), (torch.ones(3), 2.0)]
        >>> tasks = [Regression(name="y")]
        >>> contents = read_dataset(items, tasks)
        >>> fit_tasks(tasks, contents.labels)
        >>> contents.source("items", tasks).batch(torch.tensor([1])).observed["y"].tolist()
        [False]
    """
    if len(dataset) == 0:
        raise InputError("A data set needs at least one item, got none.")
    adapter = adapter or _pair
    targets = tuple(dict.fromkeys(target for task in tasks for target in task.targets))
    kept: list[Any] = []
    labels: list[list[Any]] = []
    for row in range(len(dataset)):
        inputs, found = adapter(dataset[row])
        labels.append(_label_row(found, targets, row))
        if row == 0 and in_memory is None:
            first = _numpy_inputs(inputs)
            sizes = [value.nbytes for value in (first.values() if isinstance(first, dict) else [first])]
            in_memory = sum(sizes) * len(dataset) < _MEMORY
        if in_memory:
            kept.append(_numpy_inputs(inputs))
    columns = {target: _label_column([row[i] for row in labels]) for i, target in enumerate(targets)}
    return DatasetContents(dataset, adapter, _stacked(kept, range(len(kept))) if in_memory else None, columns)


def _pair(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise InputError(
            f"An item needs to be a pair of inputs and labels, got {type(item).__name__}. Give an adapter."
        )
    return item[0], item[1]


def _label_row(found: Any, targets: tuple[str, ...], row: int) -> list[Any]:
    if isinstance(found, Mapping):
        unknown = [target for target in targets if target not in found]
        if unknown:
            raise TargetError(f"Item {row} has no label for {unknown[0]!r}; it has {', '.join(map(repr, found))}.")
        values = [found[target] for target in targets]
    elif len(targets) == 1 and np.ndim(found) == 0:
        values = [found]
    else:
        values = list(found) if np.ndim(found) else [found]
    if len(values) != len(targets):
        raise TargetError(f"Item {row} has {len(values)} labels, but the tasks have {len(targets)} targets.")
    return [value.item() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value for value in values]


def _label_column(values: list[Any]) -> np.ndarray:
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return np.array(values)
    return object_array(values)


def _numpy_inputs(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {key: _numpy_inputs(value) for key, value in inputs.items()}
    return inputs.detach().cpu().numpy() if isinstance(inputs, Tensor) else np.asarray(inputs)


def _stacked(items: list[Any], rows: Sequence[int]) -> Any:
    if isinstance(items[0], dict):
        return {key: _stacked([item[key] for item in items], rows) for key in items[0]}
    for item, row in zip(items, rows, strict=True):
        if item.shape != items[0].shape:
            raise InputError(
                f"Item {row} has inputs of shape {list(item.shape)}, but item {rows[0]} has {list(items[0].shape)}. "
                "All items of a source need the same shape."
            )
    return np.stack(items)


def _to_tensors(inputs: Any) -> Inputs:
    """As an encoder reads them, by the rules of :func:`~polytask.data.sources.array_source`."""
    source = array_source("batch", inputs, {}, ())
    return source.batch(torch.arange(len(source))).inputs
