"""The tasks' gradients, one row a task, in one buffer that is used again at every step."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch

from polytask.balancing.balancer import Balancer
from polytask.shapes import Float, Tensor

__all__ = ["SAFE", "RowBuffer", "forget_buffers", "inner_products", "row_buffer", "row_products"]


Key = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]

_PIECE = 1024
SAFE = (1e-28, 1e32)  # squared norms between which products of float32 neither vanish nor overflow


def _key(parameters: Sequence[Tensor]) -> Key:
    return tuple((p.shape, p.dtype, p.device) for p in parameters)


class RowBuffer:
    """Memory for T gradients of the shared parameters, one row a task; parameters of one dtype and device lie together.

    Args:
        capacity: Largest number of rows.
        parameters: The parameters, in the order of the columns.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> rows = RowBuffer(2, [w])
        >>> rows.write(0, [torch.tensor([1.0, 2.0])])
        >>> rows.write(1, [None])
        >>> rows.gramian().tolist()
        [[5.0, 0.0], [0.0, 0.0]]
    """

    def __init__(self, capacity: int, parameters: Sequence[Tensor]):
        self.key = _key(parameters)
        self.capacity = self.n_rows = capacity
        kinds = list(dict.fromkeys((p.dtype, p.device) for p in parameters))
        members = [[i for i, p in enumerate(parameters) if (p.dtype, p.device) == kind] for kind in kinds]
        self._order = [i for group in members for i in group]
        self._shapes = [[parameters[i].shape for i in group] for group in members]
        self._sizes = [[parameters[i].numel() for i in group] for group in members]
        self._all = [
            torch.empty(capacity, sum(sizes), dtype=dtype, device=device)
            for (dtype, device), sizes in zip(kinds, self._sizes, strict=True)
        ]
        self._cells = [self.unflatten([block[row] for block in self._all]) for row in range(capacity)]

    @property
    def blocks(self) -> list[Tensor]:
        """The rows in use, one matrix for each dtype and device."""
        return [block[: self.n_rows] for block in self._all]

    def unflatten(self, flats: Sequence[Tensor]) -> list[Tensor]:
        """One view a parameter into vectors laid out as the blocks' columns are."""
        views = [
            part.view(shape)
            for flat, sizes, shapes in zip(flats, self._sizes, self._shapes, strict=True)
            for part, shape in zip(flat.split(sizes), shapes, strict=True)
        ]
        return [view for _, view in sorted(zip(self._order, views, strict=True), key=lambda pair: pair[0])]

    def write(self, row: int, gradients: Sequence[Tensor | None]) -> None:
        """Store one task's gradient; a parameter that it does not reach gets zeros."""
        cells = self._cells[row]
        into = [cell for cell, g in zip(cells, gradients, strict=True) if g is not None]
        given = [g.to_dense() if g.is_sparse else g for g in gradients if g is not None]
        missing = [cell for cell, g in zip(cells, gradients, strict=True) if g is None]
        if given:
            torch._foreach_copy_(into, given)
        if missing:
            torch._foreach_zero_(missing)

    def pack(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """One tensor a parameter, laid out as the blocks' columns are: one vector a block."""
        ordered = [tensors[i].flatten() for i in self._order]
        out, at = [], 0
        for sizes in self._sizes:
            out.append(torch.cat(ordered[at : at + len(sizes)]))
            at += len(sizes)
        return out

    def gramian(self) -> Float[Tensor, "T T"]:
        """Inner products of the rows, float64, on the CPU."""
        total = torch.zeros(self.n_rows, self.n_rows, dtype=torch.float64)
        for block in self.blocks:
            total += row_products(block)
        return total

    def flat(self) -> Float[Tensor, "T P"]:
        """All rows in one matrix; the buffer itself if all parameters have one dtype and device."""
        blocks = self.blocks
        return blocks[0] if len(blocks) == 1 else torch.cat([b.to(blocks[0]) for b in blocks], 1)

    def combined(self, weights: Float[Tensor, " T"]) -> list[Tensor]:
        """The weighted sum of the rows, one tensor a parameter."""
        return self.unflatten([weights.to(block) @ block for block in self.blocks])

    def split(self, vector: Float[Tensor, " P"]) -> list[Tensor]:
        """A vector in the columns of :meth:`flat`, as one tensor a parameter."""
        parts = vector.split([sum(sizes) for sizes in self._sizes])
        return self.unflatten([part.to(block) for part, block in zip(parts, self._all, strict=True)])


def inner_products(x_TP: Float[Tensor, "T P"], y_TP: Float[Tensor, "T P"]) -> Float[Tensor, "T T"]:
    """``x @ y.T`` in float64 on the CPU, from products of short pieces.

    Few long rows are the worst shape for a matrix product: in pieces it is up to five times as fast, and its
    error does not grow with the length.
    """
    width = x_TP.shape[1]
    n_pieces = width // _PIECE
    edge = n_pieces * _PIECE
    total = (x_TP[:, edge:] @ y_TP[:, edge:].T).double()
    if n_pieces:
        x_NTP, y_NTP = (m[:, :edge].unflatten(1, (n_pieces, _PIECE)).transpose(0, 1) for m in (x_TP, y_TP))
        total = total + torch.bmm(x_NTP, y_NTP.transpose(1, 2)).sum(0, dtype=torch.float64)
    return total.cpu()


def row_products(block: Float[Tensor, "T P"]) -> Float[Tensor, "T T"]:
    """``block @ block.T`` in float64, from float32 arithmetic where that is safe."""
    quick = block.float() if block.itemsize < 4 else block
    products = inner_products(quick, quick)
    norms = products.diagonal()
    if block.dtype == torch.float64 or bool(((norms > SAFE[0]) & (norms < SAFE[1])).all()):
        return products
    largest = block.abs().amax(1).to("cpu", torch.float64) if block.shape[1] else torch.zeros_like(norms)
    if bool(((largest == 0) | (norms > SAFE[0])).all()) and bool((norms < SAFE[1]).all()):
        return products
    # Scale every row to a largest element of one, so that no square over- or underflows.
    safe = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    unit = quick / safe.to(quick).unsqueeze(1)
    return inner_products(unit, unit) * safe.outer(safe)


_BUFFERS: weakref.WeakKeyDictionary[Balancer, RowBuffer] = weakref.WeakKeyDictionary()


def row_buffer(balancer: Balancer, n_rows: int, parameters: Sequence[Tensor]) -> RowBuffer:
    """The balancer's buffer of the step before if it still fits, else a new one.

    A fresh block of this size is paged in again by the system at every step, which costs as much as writing it.
    """
    buffer = _BUFFERS.get(balancer)
    if buffer is None or buffer.key != _key(parameters) or buffer.capacity < n_rows:
        _BUFFERS.pop(balancer, None)
        buffer = _BUFFERS[balancer] = RowBuffer(n_rows, parameters)
    buffer.n_rows = n_rows
    return buffer


def forget_buffers() -> None:
    """Give the memory of all buffers back."""
    _BUFFERS.clear()
