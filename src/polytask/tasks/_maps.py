"""Labels that are maps, a value for each pixel: reading them, and moving them with their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from polytask.errors import TargetError
from polytask.shapes import Bool, Float, Shaped, Tensor

__all__ = ["by_pixel", "moved_map", "read_maps"]


def read_maps(
    who: str, labels: Any, extents: Sequence[int] = (), has_channels: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of maps as one array, and which rows have one.

    Args:
        who: The task, for messages.
        labels: ``[N, H, W]`` (``[N, H, W, C]`` with channels), or ``[N]`` such maps and ``None`` where there is none. A
            value instead of a map is one of one pixel.
        extents: Height and width (and channels) that the maps must have, if they are known.
        has_channels: Whether a pixel may have several values.

    Returns:
        ``[M, H, W]`` or, with channels, ``[M, H, W, C]`` of the M rows that have one; and ``[N]``.

    Raises:
        TargetError: If the maps differ in size, or are none; names the row.
    """
    table = labels if isinstance(labels, np.ndarray) else np.asarray(labels)
    n_axes = 4 if has_channels else 3
    if table.ndim in (3, n_axes):
        maps = table if table.ndim == n_axes or not has_channels else table[..., None]
        there = np.ones(len(maps), dtype=bool)
    elif table.ndim == 1 and table.dtype != object:
        maps, there = table.reshape(-1, *[1] * (n_axes - 1)), np.ones(len(table), dtype=bool)
    elif table.ndim == 1:
        maps, there = _stacked(who, table, n_axes - 1, extents)
    else:
        raise TargetError(f"{who} needs a map [H, W] a row, got an array of shape {list(table.shape)}.")
    if extents and len(maps) and tuple(maps.shape[1:]) != tuple(extents):
        row = int(np.flatnonzero(there)[0])
        raise TargetError(
            f"{who} has maps of {_size(maps.shape[1:])} (row {row}), and those of training are {_size(extents)}. Give "
            "all maps, and the images, one size."
        )
    return maps, there


def _stacked(who: str, rows: np.ndarray, n_axes: int, extents: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    there = np.ones(len(rows), dtype=bool)
    found: list[np.ndarray] = []
    for row, value in enumerate(rows):
        if value is None or (isinstance(value, float) and np.isnan(value)):
            there[row] = False
            continue
        one = np.asarray(value)
        if one.dtype.kind in "SUT":
            one = one.astype(object)
        if one.ndim not in (0, 2, n_axes):
            raise TargetError(f"{who} needs a map [H, W] in row {row}, got an array of shape {list(one.shape)}.")
        one = one.reshape(*[1] * n_axes) if one.ndim == 0 else one if one.ndim == n_axes else one[..., None]
        if found and one.shape != found[0].shape:
            first = int(np.flatnonzero(there)[0])
            raise TargetError(
                f"{who} has a map of {_size(one.shape)} in row {row}, but row {first} has one of "
                f"{_size(found[0].shape)}. Give all maps, and the images, one size."
            )
        found.append(one)
    if not found:
        return np.empty((0, *(extents or [1] * n_axes)), dtype=object), there
    if any(one.dtype == object for one in found):
        found = [one.astype(object) for one in found]
    return np.stack(found), there


def by_pixel(outputs: Float[Tensor, "*N O"], n_axes: int) -> Float[Tensor, "*N H W O"]:
    """Outputs with axes for the pixels, which rows of one pixel may have left out."""
    return outputs if outputs.ndim == n_axes else outputs[..., None, None, :]


def moved_map(
    targets: Shaped[Tensor, "B H W ..."], observed: Bool[Tensor, "B H W ..."], motion: Float[Tensor, "B 2 3"]
) -> tuple[Shaped[Tensor, "B H W ..."], Bool[Tensor, "B H W ..."]]:
    """The map as its image was moved: each pixel takes the nearest old one; what comes in is missing.

    Args:
        targets: The map.
        observed: Which of it is known.
        motion: From places of the new image to those of the old, see :class:`polytask.data.Batch`.
    """
    height, width = targets.shape[1:3]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    new = torch.stack([x, y, torch.ones_like(x)]).flatten(1).to(motion)
    old = (motion @ new).floor().long()
    column, row = old[:, 0], old[:, 1]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = torch.where(inside, row * width + column, 0)
    rows = torch.arange(len(targets))[:, None]
    targets_, observed_ = (t.flatten(1, 2)[rows, place].unflatten(1, (height, width)) for t in (targets, observed))
    inside = inside.unflatten(1, (height, width)).view(*targets.shape[:3], *[1] * (observed.ndim - 3))
    return targets_, observed_ & inside


def _size(extents: Sequence[int]) -> str:
    return " x ".join(map(str, extents))
