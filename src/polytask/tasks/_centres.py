"""Objects of an image as peaks: the heat that is wanted, what is said at a centre, and the boxes that peaks tell of.

Boxes are rows ``(class, x, y, width, height)`` of pixels; those of width 0 are none.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from polytask.shapes import Bool, Float, Shaped, Tensor
from polytask.tasks._boxes import Found

__all__ = ["SURE", "at_centres", "best_constant", "heat_of", "moved_boxes", "peaks_of", "true_boxes"]

SURE = 1e-4
"""How near to 0 and 1 the score of an answer may come, so that it can be turned back into an output."""


def heat_of(targets: Shaped[Tensor, "*N M 5"], n_classes: int, extents: tuple[int, int]) -> Float[Tensor, "*N H W K"]:
    """How much each pixel is the centre of an object of each class: 1 there, falling off around it.

    Args:
        targets: The boxes.
        n_classes: Number of classes.
        extents: Height and width of the images.
    """
    code, x, y, width, height = targets.unbind(-1)
    here = torch.arange(n_classes, device=targets.device) == code.unsqueeze(-1)
    parts = []
    for centre, extent, n in ((y, height, extents[0]), (x, width, extents[1])):
        place = torch.arange(n, device=targets.device) - centre.floor().unsqueeze(-1)
        spread = (0.54 / 6 * extent).clamp_min(1e-3).unsqueeze(-1)
        parts.append(torch.exp(-0.5 * (place / spread).square()))
    down, across = parts
    across = torch.where((width > 0).unsqueeze(-1), across, torch.zeros_like(across))
    heat = torch.zeros((), dtype=targets.dtype, device=targets.device)
    for i in range(targets.shape[-2]):
        one = down[..., i, :, None, None] * across[..., i, None, :, None]
        heat = torch.maximum(heat, one * here[..., i, None, None, :])
    return heat


def at_centres(
    targets: Shaped[Tensor, "*N M 5"], extents: tuple[int, int], sizes: tuple[float, float]
) -> tuple[Bool[Tensor, "*N M"], Shaped[Tensor, "*N M"], Float[Tensor, "*N M 4"]]:
    """Which are objects, the pixel of each, and what to say there."""
    x, y, width, height = targets[..., 1:].unbind(-1)
    column = x.floor().clamp(0, extents[1] - 1)
    line = y.floor().clamp(0, extents[0] - 1)
    wanted = torch.stack([x - column, y - line, width / sizes[0], height / sizes[1]], -1)
    return width > 0, (line * extents[1] + column).long(), wanted


def peaks_of(
    outputs: Float[Tensor, "N H W O"], extents: tuple[int, int], sizes: tuple[float, float], most: int
) -> list[Found]:
    """The highest pixels among their neighbours, at most ``most`` of an image, and the boxes around them."""
    (height, width), n = extents, outputs.shape[-1] - 4
    z = outputs.reshape(len(outputs), height, width, n + 4)
    if not len(z):
        return []
    scores = torch.sigmoid(z[..., :n].movedim(-1, 1))
    is_peak = F.max_pool2d(scores, 3, 1, 1) == scores
    ranked, place = (
        torch.where(is_peak, scores, torch.zeros_like(scores)).flatten(1).sort(dim=1, descending=True, stable=True)
    )
    ranked, place = ranked[:, :most], place[:, :most]
    code, place = place // (height * width), place % (height * width)
    about = z[..., n:].flatten(1, 2).gather(1, place.unsqueeze(-1).expand(-1, -1, 4)).numpy()
    pixel = place.numpy()
    # Kept inside the pixel after rounding too, so that an answer can be turned back into outputs.
    x = pixel % width + np.clip(about[..., 0], 0.001, 0.998)
    y = pixel // width + np.clip(about[..., 1], 0.001, 0.998)
    half = np.clip(about[..., 2:], 0, None) * np.array(sizes) / 2
    edges = np.stack([x - half[..., 0], y - half[..., 1], x + half[..., 0], y + half[..., 1]], -1).round(3)
    said = np.clip(ranked.numpy().round(4), SURE, 1 - SURE)
    return [
        Found(c[kept], e[kept], s[kept])
        for c, e, s, kept in zip(code.numpy(), edges, said, ranked.numpy() > 0, strict=True)
    ]


def best_constant(
    targets: Shaped[Tensor, "N M 5"], n_classes: int, extents: tuple[int, int], sizes: tuple[float, float]
) -> tuple[float, ...]:
    """What costs least if it is said of every pixel."""
    from scipy.optimize import minimize_scalar

    centres, others = torch.zeros(n_classes, dtype=torch.float64), torch.zeros(n_classes, dtype=torch.float64)
    for part in targets.double().split(64):
        heat = heat_of(part, n_classes, extents)
        centres += (heat == 1).sum((0, 1, 2))
        others += torch.where(heat == 1, torch.zeros_like(heat), (1 - heat) ** 4).sum((0, 1, 2))

    def best(a: float, b: float) -> float:
        def cost(z: float) -> float:
            p = 1 / (1 + np.exp(-z))
            return float(a * (1 - p) ** 2 * np.logaddexp(0, -z) + b * p**2 * np.logaddexp(0, z))

        return float(minimize_scalar(cost, bounds=(-15, 15), method="bounded", options={"xatol": 1e-10}).x)

    # A class that training did not see is as if half an object of it had been.
    heats = [best(max(a, 0.5), b) for a, b in zip(centres.tolist(), others.tolist(), strict=True)]
    is_object, _, wanted = at_centres(targets, extents, sizes)
    middle = np.median(wanted[is_object].double().numpy(), axis=0) if bool(is_object.any()) else np.array([0.5] * 4)
    return (*heats, *middle.tolist())


def true_boxes(row: np.ndarray) -> Found:
    """The boxes of one image, as if they had been found."""
    boxes = row[row[:, 3] > 0]
    centre, half = boxes[:, 1:3], boxes[:, 3:] / 2
    return Found(boxes[:, 0].astype(np.int64), np.concatenate([centre - half, centre + half], 1), np.ones(len(boxes)))


def moved_boxes(
    targets: Shaped[Tensor, "B M 5"], motion: Float[Tensor, "B 2 3"], extents: tuple[int, int]
) -> Shaped[Tensor, "B M 5"]:
    """The boxes as their images were moved: those around the turned ones, cut at the border.

    Objects whose centre left the image are gone.
    """
    centre, half = targets[..., 1:3], targets[..., 3:] / 2
    signs = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    corners = centre.unsqueeze(-2) + half.unsqueeze(-2) * signs  # [B, M, 4, 2]
    back = torch.linalg.inv(motion[:, :, :2]).to(targets.dtype)
    offset = motion[:, None, None, :, 2].to(targets.dtype)
    corners, middle = ((p - offset) @ back.transpose(1, 2)[:, None] for p in (corners, centre.unsqueeze(-2)))
    middle = middle.squeeze(-2)
    border = torch.tensor([extents[1], extents[0]], dtype=targets.dtype)
    low, high = corners.amin(-2).clamp_min(0), torch.minimum(corners.amax(-2), border)
    stays = ((middle >= 0) & (middle < border)).all(-1) & (targets[..., 3] > 0) & (high > low).all(-1)
    moved = torch.cat([targets[..., :1], (low + high) / 2, high - low], -1)
    return torch.where(stays.unsqueeze(-1), moved, torch.zeros_like(moved))
