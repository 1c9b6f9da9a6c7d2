"""The batches of a run, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from polytask.data.sampler import Sampler
from polytask.data.samplers.proportional import Proportional
from polytask.data.shuffles import BlockShuffle, LengthShuffle, Shuffle, WholeShuffle
from polytask.errors import DataError, RecipeError
from polytask.shapes import Int, Tensor
from polytask.wording import counted

__all__ = ["BatchPlan", "Draw"]


@dataclass(frozen=True)
class Draw:
    """One step's batch: the source, and the positions of its rows."""

    source: str
    rows: Int[Tensor, " B"]


class BatchPlan:
    """The batches of a run, epoch by epoch, over one or several sources.

    Each source is gone through in passes: every pass is a new shuffle, and no row comes twice before all came once,
    also where a pass goes on over the end of an epoch. An epoch has as many steps as all the sources have batches in
    one pass, unless another number is given. The whole plan depends on the seed only; the place in it is a few
    numbers (:meth:`state_dict`), from which a run goes on with the very batches that would have come.

    Args:
        n_rows: Number of rows of each source.
        batch_size: Rows in a batch; or for each source.
        sampler: The mixing policy; proportional if ``None``.
        seed: Of everything random here.
        steps_per_epoch: Steps in an epoch; the sum of the sources' batches if ``None``.
        drop_last: Leave the last, smaller batch of a pass out. It is kept otherwise; but a last batch of a single row
            is joined to the one before, because batch normalisation cannot learn from one row.
        blocks: Of sources that are read block by block: the rows of each block, and how many rows are shuffled
            together, see :class:`~polytask.data.shuffles.BlockShuffle`.
        lengths: Of sources whose batches are of rows of alike lengths: the length of each row.

    Raises:
        DataError: If there is no source, or one without rows.
        RecipeError: If a batch size or the number of steps is not positive.

    Example:
        >>> plan = BatchPlan({"digits": 5, "letters": 4}, batch_size=2, seed=0)
        >>> print(plan.describe())
        digits: 2 batches, 1.0 passes; letters: 2 batches, 1.0 passes
        >>> sorted(row for draw in plan.epoch() if draw.source == "digits" for row in draw.rows.tolist())
        [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        n_rows: Mapping[str, int],
        batch_size: int | Mapping[str, int] = 32,
        sampler: Sampler | None = None,
        *,
        seed: int = 0,
        steps_per_epoch: int | None = None,
        drop_last: bool = False,
        blocks: Mapping[str, tuple[Sequence[int], int]] | None = None,
        lengths: Mapping[str, Int[Tensor, " N"]] | None = None,
    ):
        if not n_rows:
            raise DataError("A batch plan needs at least one source, got none.")
        for name, count in n_rows.items():
            if count < 1:
                raise DataError(f"Source {name!r} has no rows to draw batches from.")
        self.n_rows = dict(n_rows)
        if not isinstance(batch_size, int) and (missing := [name for name in n_rows if name not in batch_size]):
            raise RecipeError(f"Source {missing[0]!r} needs a batch size; there is one for {', '.join(batch_size)}.")
        self.batch_size = {name: batch_size if isinstance(batch_size, int) else batch_size[name] for name in n_rows}
        if min(self.batch_size.values()) < 1:
            raise RecipeError(f"The batch size needs to be at least 1, got {min(self.batch_size.values())}.")
        self.sampler = Proportional() if sampler is None else sampler
        self.seed = seed
        self.drop_last = drop_last
        self.n_batches = {name: self._count(name) for name in n_rows}
        self.n_steps = sum(self.n_batches.values()) if steps_per_epoch is None else steps_per_epoch
        if self.n_steps < 1:
            raise RecipeError(f"An epoch needs at least 1 step, got {self.n_steps}.")
        self._epoch = 0
        self._step = 0
        self._drawn = dict.fromkeys(self.n_rows, 0)  # batches drawn from each source since the start of the run
        self._blocks = {name: (list(sizes), window) for name, (sizes, window) in (blocks or {}).items()}
        self._lengths = dict(lengths or {})
        self._shuffles = {name: self._shuffle(name, 1 + stream) for stream, name in enumerate(self.n_rows)}

    @property
    def epochs_done(self) -> int:
        """Number of whole epochs done."""
        return self._epoch

    @property
    def steps_done(self) -> int:
        """Steps done in the present epoch."""
        return self._step

    def epoch(self) -> Iterator[Draw]:
        """What is left of the present epoch; the whole of it, unless a state was loaded or an iteration broken off."""
        for draw in self.coming():
            # Counted before the batch is given away, so that a state taken while it is used does not draw it again.
            self.passed(draw)
            yield draw
        self.end_epoch()

    def coming(self) -> Iterator[Draw]:
        """The same draws for who reads ahead: :meth:`passed` and :meth:`end_epoch` alone move the place."""
        names = list(self.n_rows)
        drawn = dict(self._drawn)
        for number in self._order(self._epoch).tolist()[self._step :]:
            name = names[number]
            yield Draw(name, self._rows(name, drawn[name]))
            drawn[name] += 1

    def passed(self, draw: Draw) -> None:
        """A draw is used: the place is behind it now."""
        self._drawn[draw.source] += 1
        self._step += 1

    def end_epoch(self) -> None:
        """All draws of the epoch are used."""
        self._epoch += 1
        self._step = 0

    def describe(self, epoch: int | None = None) -> str:
        """An epoch in words: batches and passes of each source; the present epoch if ``None``."""
        counts = torch.bincount(self._order(self._epoch if epoch is None else epoch), minlength=len(self.n_rows))
        return "; ".join(
            f"{name}: {counted(count, 'batch', 'batches')}, {count / self.n_batches[name]:.1f} passes"
            for name, count in zip(self.n_rows, counts.tolist(), strict=True)
        )

    def state_dict(self) -> dict[str, Any]:
        """The place in the plan, as JSON can hold it."""
        place = {"epoch": self._epoch, "step": self._step, "drawn": dict(self._drawn)}
        return {"plan": self._arguments(), **place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a place that :meth:`state_dict` gave, in a plan made with the same arguments.

        Raises:
            RecipeError: If the seed, the sources, their numbers of rows or the batch sizes differ.
        """
        if state["plan"] != self._arguments():
            raise RecipeError(
                f"The saved place is of the plan {state['plan']}, but this one is {self._arguments()}. "
                "Resume with the data and settings of the first run."
            )
        self._epoch, self._step = int(state["epoch"]), int(state["step"])
        self._drawn = {name: int(state["drawn"][name]) for name in self.n_rows}

    def _arguments(self) -> dict[str, Any]:
        """What the batches follow from, besides the mixing policy."""
        return {
            "seed": self.seed,
            "n_rows": self.n_rows,
            "batch_size": self.batch_size,
            "n_steps": self.n_steps,
            "drop_last": self.drop_last,
            **({"blocks": {n: [sizes, window] for n, (sizes, window) in self._blocks.items()}} if self._blocks else {}),
            **({"alike_lengths": sorted(self._lengths)} if self._lengths else {}),
        }

    def _count(self, name: str) -> int:
        size, rows = self.batch_size[name], self.n_rows[name]
        whole, rest = divmod(rows, size)
        if rest == 0 or whole == 0:
            return max(whole, 1)
        is_merged = rest == 1 and size > 1
        return whole if self.drop_last or is_merged else whole + 1

    def _order(self, epoch: int) -> Tensor:
        if len(self.n_rows) == 1:
            return torch.zeros(self.n_steps, dtype=torch.int64)
        return self.sampler.order(self.n_batches, self.n_steps, epoch, self._generator(0, epoch))

    def _rows(self, name: str, drawn: int) -> Tensor:
        n_pass, batch = divmod(drawn, self.n_batches[name])
        size = self.batch_size[name]
        is_last = batch == self.n_batches[name] - 1
        stop = self.n_rows[name] if is_last and not self.drop_last else (batch + 1) * size
        return self._shuffles[name].part(n_pass, batch * size, stop)

    def _shuffle(self, name: str, stream: int) -> Shuffle:
        generators = partial(self._generator, stream)
        if name in self._blocks:
            return BlockShuffle(self.n_rows[name], generators, *self._blocks[name])
        if name in self._lengths:
            return LengthShuffle(self.n_rows[name], generators, self._lengths[name], self.batch_size[name])
        return WholeShuffle(self.n_rows[name], generators)

    def _generator(self, stream: int, number: int, part: int = 0) -> torch.Generator:
        """A generator for one pass, one order or a part of it: independent streams, none of which needs another."""
        (seed,) = np.random.SeedSequence([self.seed, stream, number, *([part] if part else [])]).generate_state(
            1, np.uint64
        )
        return torch.Generator().manual_seed(int(seed) >> 1)
