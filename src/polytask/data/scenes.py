"""Scenes composed of digits at known places and depths, and pairs of digits that overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn import functional

from polytask.errors import DataError

__all__ = ["BACKGROUND", "OverlappingDigits", "Scenes", "composed_scenes", "overlapping_digits"]

Digits: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""Images ``[M, H, W]`` or ``[M, 1, H, W]``, bright on dark, and their labels."""

BACKGROUND = 10
"""The class of pixels that show no digit."""

_NEAR, _FAR = 1.0, 2.5
_NEAREST_SHARE = 0.55
_INK, _EDGE = 0.5, 0.15
_TRIES = 20


@dataclass(frozen=True)
class Scenes:
    """Images of several digits, and what is known of them.

    Args:
        images: uint8 ``[N, 1, S, S]``.
        mask: ``[N, S, S]``, the digit that each pixel shows, 10 for none, and -1 at the edges of the ink.
        depth: float32 ``[N, S, S]``, 1 for near to 2.5 for far, NaN where no digit is.
        boxes: ``[N]`` lists of ``(digit, left, top, right, bottom)``, also of digits partly behind others.
        counts: ``[N, 10]``, how many there are of each digit.
        front: ``[N]``, the nearest digit.
    """

    images: np.ndarray
    mask: np.ndarray
    depth: np.ndarray
    boxes: np.ndarray
    counts: np.ndarray
    front: np.ndarray


def composed_scenes(
    n: int, size: int = 32, most: int = 3, digits: Digits | None = None, noise: float = 0.05, seed: int = 0
) -> Scenes:
    """Put one to ``most`` digits into each image, the near ones larger and in front of the far ones.

    Args:
        n: Number of scenes.
        size: Height and width in pixels.
        most: Largest number of digits in one.
        digits: Where the digits come from; those of 8 x 8 pixels that ship with scikit-learn if ``None``.
        noise: Standard deviation of the noise on each pixel, where 1 is the brightest.
        seed: Of everything random; the same seed gives the same pixels.

    Raises:
        DataError: If there is nothing to draw, or the digits are no images with a label each.

    Example:
        >>> scenes = composed_scenes(5, size=32, seed=1)
        >>> scenes.images.shape, bool(len(scenes.boxes[0]) == scenes.counts[0].sum())
        ((5, 1, 32, 32), True)
    """
    if n < 1 or size < 16 or most < 1:
        raise DataError(f"Scenes need at least 1 image of 16 pixels with 1 digit, got {n} of {size} with {most}.")
    rng = np.random.default_rng(seed)
    ink, labels = _ink(digits)
    images = np.zeros((n, size, size), dtype=np.float32)
    mask = np.full((n, size, size), BACKGROUND, dtype=np.int64)
    depth = np.full((n, size, size), np.nan, dtype=np.float32)
    boxes = np.empty(n, dtype=object)
    counts = np.zeros((n, 10), dtype=np.int64)
    front = np.zeros(n, dtype=np.int64)
    for row in range(n):
        # From far to near, so that the near ones cover the far ones.
        depths = np.sort(rng.uniform(_NEAR, _FAR, rng.integers(1, most + 1)))[::-1]
        boxes[row] = []
        for away in depths:
            which = int(rng.integers(len(ink)))
            drawn = _scaled(ink[which], _NEAREST_SHARE * size / away, size)
            top, left = _place(rng, drawn.shape, size, boxes[row])
            part = (row, slice(top, top + drawn.shape[0]), slice(left, left + drawn.shape[1]))
            images[part] = images[part] * (1 - drawn) + drawn
            digit = int(labels[which])
            mask[part] = np.where(drawn > _INK, digit, np.where(drawn > _EDGE, -1, mask[part]))
            depth[part] = np.where(drawn > _INK, away, np.where(drawn > _EDGE, np.nan, depth[part]))
            boxes[row].append((digit, left, top, left + drawn.shape[1], top + drawn.shape[0]))
            counts[row, digit] += 1
            front[row] = digit
    return Scenes(_noisy(rng, images, noise), mask, depth, boxes, counts, front)


@dataclass(frozen=True)
class OverlappingDigits:
    """Images of two digits over each other.

    Args:
        images: uint8 ``[N, 1, S, S]``.
        left: ``[N]``, the digit at the left top.
        right: ``[N]``, the digit at the right bottom; never the same.
    """

    images: np.ndarray
    left: np.ndarray
    right: np.ndarray


def overlapping_digits(
    n: int, size: int = 36, digits: Digits | None = None, shift: int = 2, seed: int = 0
) -> OverlappingDigits:
    """Pairs of different digits that overlap: the classic benchmark with one task for each of both.

    Each digit takes 28 of 36 parts of the height and width, so that most of both lies over the other.

    Args:
        n: Number of pairs.
        size: Height and width in pixels.
        digits: Where the digits come from; those of 8 x 8 pixels that ship with scikit-learn if ``None``.
        shift: Largest move of each digit from its corner, in pixels.
        seed: Of everything random.

    Raises:
        DataError: If there is nothing to draw, or the digits are no images with a label each.

    Example:
        >>> pairs = overlapping_digits(4, seed=1)
        >>> pairs.images.shape, bool((pairs.left != pairs.right).all())
        ((4, 1, 36, 36), True)

    References:
        Sabour, Frosst and Hinton, "Dynamic Routing Between Capsules", NeurIPS 2017, section 6.1; as two tasks: Sener
        and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, section 5.1.
    """
    if n < 1 or size < 12 or shift < 0:
        raise DataError(
            f"Pairs need at least 1 image of 12 pixels and a shift of at least 0, got {n}, {size}, {shift}."
        )
    rng = np.random.default_rng(seed)
    raw, labels = _given(digits)
    if len(np.unique(labels)) < 2:
        raise DataError("Pairs of different digits need at least two digits to choose from.")
    width = round(size * 28 / 36)
    large = _resized(raw, width, width)
    images = np.zeros((n, size, size), dtype=np.float32)
    pairs = np.empty((n, 2), dtype=np.int64)
    for row in range(n):
        first, second = (int(i) for i in rng.integers(len(raw), size=2))
        while labels[second] == labels[first]:
            second = int(rng.integers(len(raw)))
        pairs[row] = first, second
        moves = rng.integers(0, min(shift, size - width) + 1, (2, 2))
        for which, (top, left) in zip((first, second), (moves[0], size - width - moves[1]), strict=True):
            part = (row, slice(top, top + width), slice(left, left + width))
            images[part] = np.maximum(images[part], large[which])
    return OverlappingDigits(_noisy(rng, images, 0.0), labels[pairs[:, 0]], labels[pairs[:, 1]])


def _given(digits: Digits | None) -> tuple[np.ndarray, np.ndarray]:
    """Images ``[M, H, W]`` in 0 to 1, and their labels."""
    if digits is None:
        from sklearn.datasets import load_digits

        loaded: Any = load_digits()
        return loaded.images.astype(np.float32) / 16, loaded.target.astype(np.int64)
    images, labels = np.asarray(digits[0]), np.asarray(digits[1])
    images = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
    if images.ndim != 3 or labels.shape != images.shape[:1] or not len(labels):
        raise DataError(
            f"Digits need images [M, H, W] and a label each, got shapes {list(images.shape)} and {list(labels.shape)}."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        raise DataError("Digits need labels 0 to 9.")
    return images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1), labels.astype(np.int64)


def _ink(digits: Digits | None) -> tuple[list[np.ndarray], np.ndarray]:
    """Each digit cut to its ink, those without any left out."""
    images, labels = _given(digits)
    found, kept = [], []
    for row, image in enumerate(images):
        there = image > _EDGE
        if there.any():
            down, across = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
            found.append(image[down[0] : down[-1] + 1, across[0] : across[-1] + 1])
            kept.append(row)
    if not found:
        raise DataError("No digit has any ink: images need to be bright on dark.")
    return found, labels[kept]


def _scaled(image: np.ndarray, height: float, most: int) -> np.ndarray:
    """The digit at a height, its proportions kept."""
    tall = max(round(height), 4)
    wide = min(max(round(tall * image.shape[1] / image.shape[0]), 2), most)
    return np.asarray(_resized(image[None], tall, wide)[0])


def _resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(images))[:, None],
        size=(height, width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return resized[:, 0].clamp(0, 1).numpy()


def _place(rng: np.random.Generator, extents: tuple[int, ...], size: int, taken: list[Any]) -> tuple[int, int]:
    """A place that leaves most of the digits behind to be seen, if one is found soon."""
    for _ in range(_TRIES):
        top, left = (int(rng.integers(size - extent + 1)) for extent in extents)
        covered = [_covered(box, left, top, left + extents[1], top + extents[0]) for box in taken]
        if max(covered, default=0.0) < 0.4:
            break
    return top, left


def _covered(box: tuple[int, ...], left: int, top: int, right: int, bottom: int) -> float:
    _, x0, y0, x1, y1 = box
    both = max(min(right, x1) - max(left, x0), 0) * max(min(bottom, y1) - max(top, y0), 0)
    return both / ((x1 - x0) * (y1 - y0))


def _noisy(rng: np.random.Generator, images: np.ndarray, noise: float) -> np.ndarray:
    if noise:
        images = images + noise * rng.standard_normal(images.shape, dtype=np.float32)
    return np.asarray((np.clip(images, 0, 1) * 255).round().astype(np.uint8)[:, None])
