"""The order in which a source's rows come in one pass: all of them shuffled, or block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch

from polytask.errors import DataError
from polytask.shapes import Int, Tensor

__all__ = ["BlockShuffle", "LengthShuffle", "Shuffle", "WholeShuffle"]

Generators = Callable[..., torch.Generator]
"""A generator for a pass, and for a part of it: independent streams, found again without replaying the others."""


class Shuffle(ABC):
    """An order of rows for each pass, of which any part can be had without the parts before.

    Args:
        n_rows: Number of rows.
        generators: The only source of chance.
    """

    def __init__(self, n_rows: int, generators: Generators):
        self.n_rows, self.generators = n_rows, generators

    @abstractmethod
    def part(self, n_pass: int, start: int, stop: int) -> Int[Tensor, " B"]:
        """The rows from the place ``start`` of a pass to the place ``stop``."""


class WholeShuffle(Shuffle):
    """All rows shuffled together; the order of one pass is held."""

    _held: tuple[int, Tensor] | None = None

    def part(self, n_pass: int, start: int, stop: int) -> Int[Tensor, " B"]:
        """A part of the pass's permutation."""
        if self._held is None or self._held[0] != n_pass:
            self._held = (n_pass, self.order(n_pass))
        return self._held[1][start:stop]

    def order(self, n_pass: int) -> Int[Tensor, " N"]:
        """The pass's permutation."""
        return torch.randperm(self.n_rows, generator=self.generators(n_pass))


class LengthShuffle(WholeShuffle):
    """Batches of rows of alike lengths: a shuffled pass in windows, each sorted by length, its batches shuffled.

    Args:
        n_rows: Number of rows.
        generators: The only source of chance.
        lengths: Length of each row.
        batch_size: Rows of a batch.
        window: Batches that are sorted together; one of them leaves the order to chance.

    Example:
        >>> def generators(n_pass, part=0):
        ...     return torch.Generator().manual_seed(7 * n_pass + part)
        >>> lengths = torch.tensor([1, 9, 1, 9, 1, 9])
        >>> batches = LengthShuffle(6, generators, lengths, 2, 3).part(0, 0, 6).view(3, 2)
        >>> (lengths[batches].amax(1) - lengths[batches].amin(1)).sum().item()
        8

    References:
        Khomenko et al., Accelerating Recurrent Neural Network Training Using Sequence Bucketing, 2016.
    """

    def __init__(
        self, n_rows: int, generators: Generators, lengths: Int[Tensor, " N"], batch_size: int, window: int = 50
    ):
        super().__init__(n_rows, generators)
        self.lengths, self.batch_size, self.window = lengths, batch_size, window

    def order(self, n_pass: int) -> Int[Tensor, " N"]:
        """The pass's permutation; the last, smaller batch is of any lengths."""
        order = super().order(n_pass)
        n_whole = self.n_rows // self.batch_size * self.batch_size
        parts = order[:n_whole].split(self.window * self.batch_size)
        sorted_ = [part[self.lengths[part].argsort(stable=True)] for part in parts]
        batches = torch.cat([*sorted_, order[:0]]).view(-1, self.batch_size)
        mixed = batches[torch.randperm(len(batches), generator=self.generators(n_pass, 1))]
        return torch.cat([mixed.flatten(), order[n_whole:]])


class BlockShuffle(Shuffle):
    r"""Blocks of rows in a random order, and the rows of so many neighbouring blocks shuffled together.

    What a buffer does that is filled from a file, but for its memory of what went before: any place of a pass is
    found from the seed alone, so that a run goes on in mid-pass without reading what came before. A pass is a
    permutation of all rows, and a reader that holds the rows of two windows reads each block once a pass.

    Args:
        n_rows: Number of rows.
        generators: The only source of chance.
        blocks: Number of rows of each block, whose rows lie together.
        window: Rows that are shuffled together, at least; whole blocks are taken.

    Raises:
        DataError: If the blocks do not hold all rows.

    Example:
        >>> def generators(n_pass, part=0):
        ...     return torch.Generator().manual_seed(7 * n_pass + part)
        >>> shuffle = BlockShuffle(6, generators, blocks=[2, 2, 2], window=2)
        >>> sorted(shuffle.part(0, 0, 6).tolist()), (shuffle.part(0, 0, 6) // 2).unique_consecutive().numel()
        ([0, 1, 2, 3, 4, 5], 3)
    """

    def __init__(self, n_rows: int, generators: Generators, blocks: Sequence[int], window: int):
        super().__init__(n_rows, generators)
        if sum(blocks) != n_rows:
            raise DataError(f"Blocks of {sum(blocks)} rows cannot be those of a source with {n_rows} rows.")
        self.blocks = torch.tensor(list(blocks), dtype=torch.int64)
        self.starts = torch.cumsum(self.blocks, 0) - self.blocks
        self.window = window
        self._pass: tuple[int, list[list[int]], list[int]] | None = None
        self._held: tuple[int, int, Tensor] | None = None

    def part(self, n_pass: int, start: int, stop: int) -> Int[Tensor, " B"]:
        """A part of the pass: of one window, or of neighbouring ones."""
        windows, edges = self._windows(n_pass)
        stop = min(stop, self.n_rows)
        found = []
        for number in range(len(windows)):
            low, high = max(start, edges[number]), min(stop, edges[number + 1])
            if low < high:
                rows = self._rows_of(n_pass, number, windows[number])
                found.append(rows[low - edges[number] : high - edges[number]])
        return torch.cat(found)

    def _windows(self, n_pass: int) -> tuple[list[list[int]], list[int]]:
        """Blocks of each window of a pass, and the places at which windows begin."""
        if self._pass is None or self._pass[0] != n_pass:
            order = torch.randperm(len(self.blocks), generator=self.generators(n_pass)).tolist()
            windows: list[list[int]] = [[]]
            edges, size = [0], 0
            for block in order:
                if size >= self.window:
                    edges.append(edges[-1] + size)
                    windows.append([])
                    size = 0
                windows[-1].append(block)
                size += int(self.blocks[block])
            self._pass = (n_pass, windows, [*edges, self.n_rows])
            self._held = None
        return self._pass[1], self._pass[2]

    def _rows_of(self, n_pass: int, number: int, blocks: Sequence[int]) -> Tensor:
        if self._held is None or self._held[:2] != (n_pass, number):
            rows = torch.cat([self.starts[b] + torch.arange(int(self.blocks[b])) for b in blocks])
            order = torch.randperm(len(rows), generator=self.generators(n_pass, number + 1))
            self._held = (n_pass, number, rows[order])
        return self._held[2]
