"""Rows or groups dealt to parts so that every label is in every part in proportion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from polytask.errors import DataError

__all__ = ["deal_groups", "deal_rows", "label_matrix"]

_MOST_CLASSES = 10
"""A numeric target with more different values than this is cut into quantile bins."""


def label_matrix(labels: Mapping[str, Any], n_bins: int = 5) -> np.ndarray:
    """What to stratify by: a column for each class of each target, and for each quantile bin of a number.

    A missing label is in none of its target's columns.

    Args:
        labels: By target: ``[N]`` or ``[N, K]``, missing ones as NaN, ``None`` or an empty text.
        n_bins: Bins for numbers with more than ten different values.

    Shape:
        bool ``[N, L]``.

    Example:
        >>> label_matrix({"a": ["x", "y", None], "b": [1.0, 1.0, 2.0]}).astype(int)
        array([[1, 0, 1, 0],
               [0, 1, 1, 0],
               [0, 0, 0, 1]])
    """
    columns: list[np.ndarray] = []
    for name, values in labels.items():
        array = values if isinstance(values, (pd.Series, np.ndarray)) else np.asarray(values, dtype=object)
        if array.ndim > 2:
            raise DataError(f"Labels of {name!r} need one or two dimensions to stratify by, got {array.ndim}.")
        flat = np.asarray(array)
        parts = [flat] if flat.ndim == 1 else list(flat.T)
        for part in parts:
            codes = _codes(pd.Series(part), n_bins)
            columns.append(codes[:, None] == np.arange(codes.max(initial=-1) + 1))
    if len({len(column) for column in columns}) > 1:
        raise DataError("The labels to stratify by need the same number of rows.")
    return np.concatenate(columns, axis=1)


def _codes(values: pd.Series[Any], n_bins: int) -> np.ndarray:
    """Class or bin of each row, -1 where missing."""
    if not pd.api.types.is_numeric_dtype(values):
        is_blank = values.map(lambda value: isinstance(value, str) and not value.strip()).to_numpy(dtype=bool)
        values = values.mask(is_blank).infer_objects()
    codes, distinct = pd.factorize(values, sort=False)
    if len(distinct) > _MOST_CLASSES and pd.api.types.is_numeric_dtype(values):
        binned = pd.qcut(values.astype(float), n_bins, labels=False, duplicates="drop")
        return binned.fillna(-1).to_numpy(dtype=np.int64)
    return codes.astype(np.int64)


def deal_rows(labels: np.ndarray, proportions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal rows to parts by iterative stratification.

    The rarest label that still has rows goes first: its rows go, one by one, to the part that lacks most of it, ties to
    the part that lacks most rows. Here the rows of a label are dealt at once, which gives each part the same number
    of them, and those with the same further labels are spread over the parts.

    Args:
        labels: bool ``[N, L]``.
        proportions: Share of each part; they sum to 1.
        rng: Breaks the ties.

    Shape:
        int64 ``[N]``: the part of each row.

    Note:
        The parts' sizes follow from the labels and may be off by a few rows. Time grows with N (L + parts), in whole
        arrays.

    References:
        Sechidis, Tsoumakas, Vlahavas (2011), "On the stratification of multi-label data", algorithm 1.
        Szymański, Kajdanowicz (2017), "A network perspective on stratification of multi-label data": the idea to look
        at pairs of labels.
    """
    n_rows, n_labels = len(labels), int(labels.shape[1])
    part = np.full(n_rows, -1, dtype=np.int64)
    left = labels.sum(axis=0)
    wanted = proportions[:, None] * left
    room = proportions * n_rows
    pattern = _pattern_codes(labels[:, np.argsort(left, kind="stable")])
    by_pattern = np.lexsort((rng.random(n_rows), pattern))
    ordered = labels[by_pattern]
    for _ in range(n_labels):
        if not left.any():
            break
        label = int(np.where(left > 0, left, n_rows + 1).argmin())
        rows = by_pattern[ordered[:, label] & (part[by_pattern] < 0)]
        quota = _fill(wanted[:, label], room, len(rows), rng)
        part[rows] = _spread(quota, rng)
        for j in range(len(proportions)):
            wanted[j] -= labels[rows[part[rows] == j]].sum(axis=0)
        room -= quota
        left = left - labels[rows].sum(axis=0)
    rest = rng.permutation(np.flatnonzero(part < 0))
    part[rest] = _spread(_fill(room, room, len(rest), rng), rng)
    return part


def deal_groups(
    groups: np.ndarray, labels: np.ndarray | None, proportions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Deal whole groups to parts, the largest first, each to where sizes and labels come closest to their shares.

    Args:
        groups: int ``[N]``, 0 to G - 1.
        labels: bool ``[N, L]`` to stratify by, approximately; or ``None``.
        proportions: Share of each part.
        rng: Breaks the ties.

    Shape:
        int64 ``[N]``: the part of each row.
    """
    sizes = np.bincount(groups).astype(np.float64)
    counts = sizes[:, None]
    if labels is not None and labels.shape[1]:
        per_label = np.stack([np.bincount(groups, weights=column, minlength=len(sizes)) for column in labels.T], axis=1)
        # The size weighs as much as all the labels together.
        counts = np.concatenate(
            [per_label[:, per_label.any(axis=0)], np.repeat(counts, max(1, per_label.shape[1]), 1)], 1
        )
    counts = counts / counts.sum(axis=0)
    have = np.zeros((len(proportions), counts.shape[1]))
    part = np.empty(len(sizes), dtype=np.int64)
    for group in np.lexsort((rng.random(len(sizes)), -sizes)):
        lack = proportions[:, None] - have
        growth = (counts[group] * (counts[group] - 2 * lack)).sum(axis=1) / proportions
        best = np.flatnonzero(growth <= growth.min() + 1e-12)
        part[group] = rng.choice(best)
        have[part[group]] += counts[group]
    dealt: np.ndarray = part[groups]
    return dealt


def _pattern_codes(labels: np.ndarray) -> np.ndarray:
    """A number for each different row of labels; near numbers share their first labels."""
    if labels.shape[1] == 0:
        return np.zeros(len(labels), dtype=np.int64)
    packed = np.ascontiguousarray(np.packbits(labels, axis=1))
    _, codes = np.unique(packed.view(np.dtype((np.void, packed.shape[1]))).ravel(), return_inverse=True)
    return codes


def _fill(wanted: np.ndarray, room: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """How many of ``count`` rows each part gets if each row goes to the part that lacks most at that moment."""
    # Giving to the largest lack, which then falls by one, takes the `count` largest of all lack - 0, lack - 1, ...
    lacks = (wanted[:, None] - np.arange(count)).ravel()
    parts = np.repeat(np.arange(len(wanted)), count)
    first = np.lexsort((rng.random(len(wanted))[parts], -room[parts], -lacks.round(9)))[:count]
    return np.bincount(parts[first], minlength=len(wanted))


def _spread(quota: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The parts in an order in which each comes at even distances."""
    parts = np.repeat(np.arange(len(quota)), quota)
    places = np.concatenate([(np.arange(n) + rng.random()) / n for n in quota if n] or [np.zeros(0)])
    return parts[np.argsort(places, kind="stable")]
