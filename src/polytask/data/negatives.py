"""Rows of what did not happen, drawn beside those of what did: books that were not bought."""

from __future__ import annotations

import numpy as np
import pandas as pd

from polytask.data.tables import TableLike, open_table
from polytask.errors import DataError, UnknownNameError

__all__ = ["sampled_negatives"]

_ROUNDS = 20


def sampled_negatives(
    data: TableLike, user: str, item: str, *, per_row: int = 4, power: float = 0.75, seed: int = 0
) -> pd.DataFrame:
    """For each row of a log of what users chose, further rows of the same user with items that the user never chose.

    Items are drawn by how often they were chosen, to a power: 0 draws all alike, 1 by popularity. Columns that always
    say the same of an item are those of the item drawn; all other columns are the row's own.

    Args:
        data: The log: a row for each choice.
        user: Column of users.
        item: Column of items.
        per_row: Rows drawn for each row.
        power: Of an item's count.
        seed: Of everything drawn.

    Returns:
        The drawn rows, ``per_row`` for each row of the log in its order, but for users who chose nearly everything and
        for whom none could be found: their rows are fewer.

    Raises:
        DataError: If a column is not there or has gaps, there are fewer than two items, or an option is out of range.

    Example:
        >>> log = {"user": ["ann", "ann", "bob"], "item": ["tea", "jam", "tea"], "price": [2.0, 3.0, 2.0]}
        >>> drawn = sampled_negatives(log, "user", "item", per_row=1)
        >>> drawn.to_dict("list")
        {'user': ['bob'], 'item': ['jam'], 'price': [3.0]}

    References:
        Mikolov et al., Distributed Representations of Words and Phrases, NeurIPS 2013, section 2.2 (the power 3/4).
    """
    table = open_table(data)
    for name in (user, item):
        if name not in table:
            raise DataError(str(UnknownNameError(f"column of {table.origin}", name, table.names)))
        if table.column(name).isna().any():
            raise DataError(f"Column {name!r} has missing values; a choice needs a user and an item in every row.")
    if per_row < 1 or power < 0:
        raise DataError(f"per_row needs to be at least 1 and power at least 0, got {per_row} and {power}.")
    frame = table.frame().reset_index(drop=True)
    users, _ = pd.factorize(frame[user])
    items, distinct = pd.factorize(frame[item])
    if len(distinct) < 2:
        raise DataError(f"Column {item!r} has one item only; there is nothing else to draw.")
    chosen = np.unique(users.astype(np.int64) * len(distinct) + items)
    shares = np.bincount(items).astype(np.float64) ** power
    rows, drawn = _draw(np.repeat(np.arange(len(frame)), per_row), users, chosen, shares, seed)
    made = frame.iloc[rows].reset_index(drop=True)
    first = frame.iloc[np.unique(items, return_index=True)[1]].reset_index(drop=True)
    for name in _of_items(frame, items, item):
        made[name] = first[name].iloc[drawn].to_numpy()
    return made


def _draw(
    rows: np.ndarray, users: np.ndarray, chosen: np.ndarray, shares: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with an item for each that the row's user did not choose; drawn anew until it is one, a few times."""
    generator = np.random.default_rng(seed)
    cumulated = np.cumsum(shares) / shares.sum()
    drawn = np.full(len(rows), -1, dtype=np.int64)
    open_ = np.arange(len(rows))
    for _ in range(_ROUNDS):
        found = np.minimum(np.searchsorted(cumulated, generator.random(len(open_)), side="right"), len(shares) - 1)
        keys = users[rows[open_]].astype(np.int64) * len(shares) + found
        at = np.minimum(np.searchsorted(chosen, keys), len(chosen) - 1)
        is_new = chosen[at] != keys
        drawn[open_[is_new]] = found[is_new]
        open_ = open_[~is_new]
        if not len(open_):
            break
    kept = drawn >= 0
    return rows[kept], drawn[kept]


def _of_items(frame: pd.DataFrame, items: np.ndarray, item: str) -> list[str]:
    """Columns that say the same wherever an item comes; with each item once, only the item itself is sure."""
    if np.bincount(items).max() < 2:
        return [item]
    by_item = frame.groupby(items)
    return [name for name in frame.columns if name == item or (by_item[name].nunique(dropna=False) <= 1).all()]
