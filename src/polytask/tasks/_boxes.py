"""Boxes around the objects of an image: reading them, and how good found ones are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from polytask.errors import TargetError
from polytask.shapes import object_array

__all__ = ["Box", "Found", "average_precision", "overlaps", "read_boxes"]

Box: TypeAlias = "tuple[Any, float, float, float, float]"
"""A class, and the left, top, right and bottom edges in pixels."""

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
"""Overlaps from which a found box may count as a true one, in the mean of COCO."""


def read_boxes(who: str, labels: Any, extents: tuple[int, int]) -> list[list[Box] | None]:
    """Each row's boxes, ``None`` where they are not known.

    Args:
        who: The task, for messages.
        labels: ``[N]`` lists of boxes, each ``(class, left, top, right, bottom)`` or a dict with ``class`` and ``box``;
            ``[N, M, 5]`` if all rows have as many; a class alone is a box around the whole image.
        extents: Height and width of the images.

    Raises:
        TargetError: If a box is none, is empty, or reaches over the image; names the row.
    """
    table = labels if isinstance(labels, np.ndarray) else object_array(labels)
    if table.ndim not in (1, 3):
        raise TargetError(f"{who} needs a list of boxes a row, got an array of shape {list(table.shape)}.")
    return [_row(who, value, row, extents) for row, value in enumerate(table.tolist() if table.ndim == 1 else table)]


def _row(who: str, value: Any, row: int, extents: tuple[int, int]) -> list[Box] | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and not value.strip():
        return None
    if not isinstance(value, list | tuple | np.ndarray):
        return [(value, 0.0, 0.0, float(extents[1]), float(extents[0]))]
    return [_box(who, box, row, extents) for box in value]


def _box(who: str, given: Any, row: int, extents: tuple[int, int]) -> Box:
    if isinstance(given, Mapping) and {"class", "box"} <= given.keys():
        parts: list[Any] = [given["class"], *given["box"]]
    else:
        parts = list(given) if isinstance(given, list | tuple | np.ndarray) else [given]
    if len(parts) != 5:
        raise TargetError(
            f"{who} needs boxes as (class, left, top, right, bottom), or with the keys class and box; got {given!r} in "
            f"row {row}."
        )
    name = parts[0].item() if isinstance(parts[0], np.generic) else parts[0]
    if isinstance(name, float) and name.is_integer():  # an array of numbers made it one
        name = int(name)
    try:
        left, top, right, bottom = (float(part) for part in parts[1:])
    except (TypeError, ValueError):
        raise TargetError(f"{who} needs numbers for the edges of a box, got {given!r} in row {row}.") from None
    height, width = extents
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        fault = (
            "is empty or no box"
            if not (left < right and top < bottom)
            else f"reaches over the {height} x {width} image"
        )
        raise TargetError(
            f"{who} has a box {(left, top, right, bottom)} in row {row} that {fault}. Edges are left, top, right, "
            "bottom in pixels; cut boxes at the image's border first."
        )
    return name, left, top, right, bottom


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of each box ``[M, 4]`` with each of ``[N, 4]``.

    Example:
        >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [2, 2, 3, 3]])).round(3).tolist()
        [[0.333, 0.0]]
    """
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (one, other)]
    either = areas[0][:, None] + areas[1][None, :] - both
    return np.asarray(both / np.where(either > 0, either, 1.0))


@dataclass(frozen=True)
class Found:
    """Boxes of one image, found or true.

    Args:
        codes: ``[M]``, the class of each.
        boxes: ``[M, 4]``, left, top, right and bottom edges.
        scores: ``[M]``; ones for true boxes.
    """

    codes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def average_precision(
    found: Sequence[Found], true: Sequence[Found], thresholds: Sequence[float] = THRESHOLDS
) -> np.ndarray:
    """Average precision at each threshold of overlap, the mean over the classes that some image truly has.

    Found boxes are taken from the highest score on; each is right if the true box of its image and class that it
    overlaps most, among those not taken, overlaps it enough. Precision is the mean of its interpolation at 101 recalls.

    Returns:
        One value a threshold; NaN if no image has a box.

    References:
        Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and its evaluation code (the 101 recalls).
    """
    classes = np.unique(np.concatenate([boxes.codes for boxes in true])) if true else np.empty(0)
    each = [[_of_class(found, true, code, threshold) for code in classes] for threshold in thresholds]
    return np.array([np.mean(values) if values else math.nan for values in each])


def _of_class(found: Sequence[Found], true: Sequence[Found], code: Any, threshold: float) -> float:
    scores: list[np.ndarray] = []
    right: list[np.ndarray] = []
    n_true = 0
    for mine, theirs in zip(found, true, strict=True):
        order = np.flatnonzero(mine.codes == code)
        order = order[np.argsort(-mine.scores[order], kind="stable")]
        known = theirs.boxes[theirs.codes == code]
        n_true += len(known)
        scores.append(mine.scores[order])
        right.append(_matched(mine.boxes[order], known, threshold))
    ranked = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.concatenate(right)[ranked].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    # The interpolation: the best precision at that recall or beyond.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / n_true, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[at].mean())


def _matched(boxes: np.ndarray, known: np.ndarray, threshold: float) -> np.ndarray:
    """Which boxes, from the first on, take a true one that no earlier one took."""
    free = np.ones(len(known), dtype=bool)
    hit = np.zeros(len(boxes), dtype=bool)
    overlap = overlaps(boxes, known)
    for i in range(len(boxes)):
        candidates = np.where(free, overlap[i], -1.0)
        if len(candidates) and candidates.max() >= threshold:
            hit[i], free[candidates.argmax()] = True, False
    return hit
