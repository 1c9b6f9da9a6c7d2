"""The Gramian from short sketches of the gradients, which data-parallel processes send in their place."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from polytask.balancing.peers import Peers, summed
from polytask.balancing.rows import row_products
from polytask.shapes import Float, Tensor

__all__ = ["sketched", "sketched_gramian"]

_STREAM = 0x5EED
_PIECE = 1 << 20
"""Columns that are drawn for at a time; what is drawn does not depend on how many rows there are."""


def sketched_gramian(
    blocks: Sequence[Float[Tensor, "T _"]], width: int, step: int, peers: Peers | None = None
) -> Float[Tensor, "T T"]:
    r"""An unbiased estimate of the Gramian of rows that are summed over the processes, from ``width`` numbers a row.

    With the rows :math:`J_r` of process r and one random projection S for all, :math:`\sum_r J_r S` has T rows of k
    numbers, and

    .. math:: \hat G = \Bigl(\sum_r J_r S\Bigr) \Bigl(\sum_r J_r S\Bigr)^\top, \qquad \mathrm E\,\hat G = J J^\top,
       \qquad \mathrm{Var}\,\hat G_{st} \le \frac{\|g_s\|^2 \|g_t\|^2 + \langle g_s, g_t\rangle^2}{k}.

    Args:
        blocks: This process's rows, one matrix for each dtype and device.
        width: k.
        step: Number of the step; the projection depends on it and on nothing else, so that the processes draw the same
            one, errors of different steps are independent, and a resumed run draws what it would have drawn.
        peers: The other processes.

    Example:
        >>> rows = torch.randn(3, 50_000, generator=torch.Generator().manual_seed(0))
        >>> exact, near = rows @ rows.T, sketched_gramian([rows], 4096, step=0)
        >>> bool((near - exact).abs().max() < 0.1 * exact.diagonal().max())
        True

    Note:
        Sends T k numbers in place of T P. The estimate is positive semidefinite. S has one entry of +-1 a column: each
        run of k columns keeps its order, is given random signs and turned round by a random number of places, so two
        columns fall on one place with a probability of 1/k at most and the bound of a count sketch holds. Costs a few
        operations a gradient element.

    References:
        Charikar, Chen, Farach-Colton (2002). Finding frequent items in data streams. ICALP (count sketch).
        Johnson, Lindenstrauss (1984). Extensions of Lipschitz mappings into a Hilbert space.
    """
    total = sketched(blocks[0], width, step, 0)
    for number, block in enumerate(blocks[1:], start=1):
        total = total + sketched(block, width, step, number).to(total)
    return row_products(summed(total, peers))


def sketched(block: Float[Tensor, "T P"], width: int, step: int, number: int = 0) -> Float[Tensor, "T k"]:
    """The block's rows times the projection of the step; ``number`` is its place among the blocks."""
    values = block.float() if block.itemsize < 4 else block
    generator = torch.Generator(block.device).manual_seed(((_STREAM * 64 + number) << 32) + step)
    n_rows, n_columns = block.shape
    out = values.new_zeros(n_rows, width)
    at = torch.arange(width, device=block.device)
    for start in range(0, n_columns, max(_PIECE // width, 1) * width):
        piece = values[:, start : start + max(_PIECE // width, 1) * width]
        runs = -(-piece.shape[1] // width)
        turns = torch.randint(width, (runs, 1), generator=generator, device=block.device)
        words = torch.empty(-(-runs * width // 8), dtype=torch.int64, device=block.device)
        words.random_(-(2**63), None, generator=generator)
        signs = torch.where(words.view(torch.int8)[: runs * width] < 0, -1.0, 1.0).to(values).view(runs, width)
        whole = torch.nn.functional.pad(piece, (0, runs * width - piece.shape[1])).view(n_rows, runs, width)
        places = (at - turns) % width
        for row in range(n_rows):
            out[row] += (whole[row].gather(1, places) * signs).sum(0)
    return out
