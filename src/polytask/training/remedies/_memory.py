"""A memory of rows of earlier stages, with a bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from polytask.data.batch import ArraySource, Source
from polytask.data.sources import RowsOf
from polytask.errors import RecipeError
from polytask.shapes import Tensor, labelled
from polytask.training.objective import Objective
from polytask.training.ranks import here
from polytask.training.remedy import Remedy, Scene

__all__ = ["KEEPING", "Memory", "Remembering", "row_bytes"]

KEEPING = ("reservoir", "class_balanced")
_PIECE = 1024


@dataclass
class Memory:
    """A sample of at most ``capacity`` rows of a stream of any length.

    ``reservoir`` keeps each row seen with the same probability. ``class_balanced`` keeps as many rows of each class
    as there are, up to an equal share, and within a class each row with the same probability.

    Args:
        capacity: Most rows.
        keeping: ``reservoir`` or ``class_balanced``.

    Attributes:
        rows: A row per kept row: stage, source, position in the source, class.
        seen: Rows seen of each class.

    Example:
        >>> memory = Memory(3)
        >>> memory.add(torch.arange(40).reshape(10, 4), torch.Generator().manual_seed(0))
        >>> len(memory.rows), sum(memory.seen.values())
        (3, 10)

    References:
        Vitter, "Random Sampling with a Reservoir", ACM Transactions on Mathematical Software 11, 1985, algorithm R;
        Chrysakis and Moens, "Online Continual Learning from Imbalanced Data", ICML 2020, algorithm 1 (class-balancing
        reservoir sampling).
    """

    capacity: int
    keeping: str = "reservoir"
    rows: list[list[int]] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    full: set[int] = field(default_factory=set)

    def add(self, stream: Tensor, generator: torch.Generator) -> None:
        """See the rows of a stream ``[N, 4]``: stage, source, position, class."""
        chances = torch.rand(len(stream), 2, generator=generator, dtype=torch.float64).tolist()
        n_seen = sum(self.seen.values())
        places = _Places(self)
        for row, (first, second) in zip(stream.tolist(), chances, strict=True):
            kind = row[3]
            self.seen[kind] = self.seen.get(kind, 0) + 1
            n_seen += 1
            if len(self.rows) < self.capacity:
                places.put(len(self.rows), kind)
                self.rows.append(row)
            elif self.keeping == "reservoir":
                if (place := int(first * n_seen)) < self.capacity:
                    self.rows[place] = row
            elif (at := self._balanced(places, kind, first, second)) is not None:
                self.rows[at] = row

    def _balanced(self, places: _Places, kind: int, first: float, second: float) -> int | None:
        """Where a row of the class goes in a memory without a free place; ``None`` if it is not kept."""
        if not self.rows:
            return None
        if not places.largest:
            self.full |= places.find_largest()
        if kind not in self.full:
            # A row of one of the largest classes, whichever it is, makes room; with it the largest may change.
            at = places.take(second)
            places.put(at, kind)
            return at
        mine = places.of.get(kind, [])
        return mine[int(second * len(mine))] if first < len(mine) / self.seen[kind] else None

    def state_dict(self) -> dict[str, Any]:
        """What is kept, and what was seen."""
        kept = torch.tensor(self.rows, dtype=torch.int64).reshape(-1, 4)
        return {"rows": kept, "seen": dict(self.seen), "full": sorted(self.full)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.rows, self.seen, self.full = state["rows"].tolist(), dict(state["seen"]), set(state["full"])


class _Places:
    """Where the rows of each class are in a memory, found once for a stream and then kept up.

    Args:
        memory: The memory.

    Attributes:
        of: The places of each class.
        largest: The classes that have the most, in order; empty if that is to be found anew.
    """

    def __init__(self, memory: Memory):
        self.of: dict[int, list[int]] = {}
        self.largest: list[int] = []
        for at, row in enumerate(memory.rows):
            self.put(at, row[3])

    def put(self, at: int, kind: int) -> None:
        """A row of the class is there now."""
        self.of.setdefault(kind, []).append(at)
        self.largest = []

    def find_largest(self) -> set[int]:
        """The classes that have the most places."""
        most = max(map(len, self.of.values()))
        self.largest = [kind for kind, places in self.of.items() if len(places) == most]
        return set(self.largest)

    def take(self, chance: float) -> int:
        """Free a place of the largest classes, each with the same probability."""
        most = len(self.of[self.largest[0]])
        which = int(chance * most * len(self.largest))
        places = self.of[self.largest[which // most]]
        # The order within a class means nothing, so that the last place may fill the gap.
        at, places[which % most] = places[which % most], places[-1]
        places.pop()
        return at


@dataclass
class Remembering(Remedy):
    """What remedies with a memory have in common: filling it at the end of a stage, drawing from it in a later one.

    Args:
        strength: See the remedy.
        rows: Most rows that are kept.
        bytes: Most bytes that they may have, or ``None``; the widest row of all sources counts.
        keeping: ``reservoir`` or ``class_balanced``.
        batch: Rows drawn in each step.
    """

    strength: float = 1.0
    rows: int = 500
    bytes: int | None = None
    keeping: str = "reservoir"
    batch: int = 32
    memory: Memory = field(init=False, repr=False)
    _groups: list[tuple[tuple[str, ...], str, Source, Objective]] = field(default_factory=list, init=False, repr=False)
    _stages: list[tuple[str, ...]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keeping not in KEEPING:
            raise RecipeError(f"{self.who}: keeping is one of {', '.join(KEEPING)}; got {self.keeping!r}.")
        if self.rows < 0 or self.batch < 1 or (self.bytes is not None and self.bytes < 0):
            raise RecipeError(
                f"{self.who} needs rows and bytes of at least 0 and a batch of at least 1 row; got rows {self.rows!r}, "
                f"bytes {self.bytes!r}, batch {self.batch!r}."
            )
        self.memory = Memory(self.rows, self.keeping)

    def begin(self, scene: Scene) -> None:
        """Bind the memory to the sources."""
        super().begin(scene)
        self._groups = []
        if self.bytes is not None:
            widest = max(row_bytes(source) for source in scene.train.values())
            self.memory.capacity = min(self.rows, self.bytes // widest)

    def end(self) -> None:
        """Show the stage's rows to the memory, each once."""
        scene = self.here
        if not self.strength:
            return
        self._stages.append(scene.stage.tasks)
        for position, source in enumerate(scene.train.values()):
            tasks = [task for task in scene.stage.tasks if task in source.tasks]
            if not tasks:
                continue
            generator = torch.Generator().manual_seed(scene.seed * 64 + position)
            rows = torch.randperm(len(source), generator=generator)
            # In pieces: a batch holds the rows' inputs too, which nobody needs here.
            pieces = [self._classes(source, tasks, piece) for piece in rows.split(_PIECE)]
            classes, there = (torch.cat(parts) for parts in zip(*pieces, strict=True))
            where = torch.tensor([len(self._stages) - 1, position]).expand(len(rows), 2)
            stream = torch.cat([where, rows[:, None], classes[:, None]], 1)[there]
            self.memory.add(stream, generator)

    def _classes(self, source: Source, tasks: list[str], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Each row's class, as a number, by the first task that has classes and a label; and whether it has a label."""
        batch = source.batch(rows)
        first = len(self._stages) << 32  # classes of different stages and tasks are different ones
        classes = torch.full((len(rows),), first, dtype=torch.int64)
        there = torch.zeros(len(rows), dtype=torch.bool)
        for place, task in reversed(list(enumerate(tasks))):
            observed = batch.observed[task]
            mine = labelled(observed)
            there |= mine
            if self.here.tasks[task].kind in ("binary", "multiclass", "ordinal"):
                codes = first + (place + 1 << 20) + batch.targets[task].long()
                classes = torch.where(mine, codes, classes)
        return classes, there

    def remembered(self, step: int) -> dict[str, Tensor]:
        """The loss of each earlier task on rows drawn from the memory; empty if there are none.

        In data parallel every process draws the same rows and reads its share of them: the losses are parts of a sum.
        """
        scene = self.here
        if not self.is_remembering:
            return {}
        if not self._groups:
            self._bind()
        sizes = torch.tensor([len(source) for _, _, source, _ in self._groups])
        if not sizes.sum():
            return {}
        generator = torch.Generator().manual_seed(scene.seed * 1_000_003 + step)
        drawn = torch.randperm(int(sizes.sum()), generator=generator)[: self.batch]
        edges = sizes.cumsum(0)
        losses: dict[str, Tensor] = {}
        device = next(scene.model.parameters()).device
        for (tasks, name, source, objective), stop, size in zip(self._groups, edges, sizes, strict=True):
            mine = drawn[(drawn >= stop - size) & (drawn < stop)] - (stop - size)
            if not len(mine):
                continue
            rows, part = here().share(mine)
            batch = source.batch(rows).to(device)
            batch = batch if part == 1.0 else replace(batch, part=part)
            outputs = scene.model(batch.inputs, tasks, name)
            for task, loss in objective(outputs, batch).items():
                if loss is not None:
                    share = len(mine) / len(drawn)
                    losses[task] = loss * share + losses[task] if task in losses else loss * share
        return losses

    @property
    def is_remembering(self) -> bool:
        """Whether there are rows of earlier tasks; the same in every process."""
        return bool(self.memory.rows and self.here.learned)

    def _bind(self) -> None:
        """Kept rows of earlier tasks by stage and source, each with an objective of its own."""
        scene = self.here
        names = list(scene.train)
        by_group: dict[tuple[int, int], list[int]] = {}
        for stage, position, row, _ in self.memory.rows:
            by_group.setdefault((stage, position), []).append(row)
        for (stage, position), rows in sorted(by_group.items()):
            whole = scene.train[names[position]]
            tasks = tuple(t for t in self._stages[stage] if t in whole.tasks and t in scene.learned)
            if not tasks:
                continue
            at = torch.tensor(rows)
            kept: Source = whole.take(at) if isinstance(whole, ArraySource) else RowsOf(whole, at)
            objective = Objective([scene.tasks[t] for t in tasks], {kept.name: kept}, scene.model.n_members)
            self._groups.append((tasks, names[position], kept, objective))

    def state_dict(self) -> dict[str, Any]:
        """The memory, and which tasks its stages trained."""
        return {"memory": self.memory.state_dict(), "stages": [list(tasks) for tasks in self._stages]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.memory.load_state_dict(state["memory"])
        self._stages = [tuple(tasks) for tasks in state["stages"]]
        self._groups = []


def row_bytes(source: Source) -> int:
    """Bytes of one row of a source: inputs, targets and ``observed``, as they lie in memory."""
    if isinstance(source, ArraySource) and source.is_in_memory:
        inputs = [source.inputs] if isinstance(source.inputs, Tensor) else list(source.inputs.values())
        tensors: Sequence[Tensor] = [*inputs, *source.targets.values(), *source.observed.values()]
    else:
        batch = source.batch(torch.zeros(1, dtype=torch.int64))
        inputs = [batch.inputs] if isinstance(batch.inputs, Tensor) else list(batch.inputs.values())
        tensors = [*inputs, *batch.targets.values(), *batch.observed.values()]
    return sum(tensor[:1].numel() * tensor.element_size() for tensor in tensors)
