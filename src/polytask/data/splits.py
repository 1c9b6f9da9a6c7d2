"""Training, validation and test rows: at random, stratified over all tasks, by group, by time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.stratify import deal_groups, deal_rows, label_matrix
from polytask.errors import DataError
from polytask.wording import counted

__all__ = ["Split", "given_split", "holdout", "k_folds"]


@dataclass(frozen=True)
class Split:
    """Positions of the training, validation and test rows, each ascending; together every row once, or less.

    Example:
        >>> split = holdout(10, validation=0.2, test=0.2, seed=0)
        >>> len(split.train), len(split.validation), len(split.test)
        (6, 2, 2)
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class _Criteria:
    """What a split looks at, for the rows it splits."""

    labels: np.ndarray | None
    groups: np.ndarray | None
    ranks: np.ndarray | None

    def of(self, rows: np.ndarray) -> _Criteria:
        groups = None if self.groups is None else np.unique(self.groups[rows], return_inverse=True)[1]
        labels, ranks = self.labels, self.ranks
        return _Criteria(None if labels is None else labels[rows], groups, None if ranks is None else ranks[rows])


def holdout(
    n_rows: int,
    *,
    validation: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    labels: Mapping[str, Any] | None = None,
    groups: Any = None,
    times: Any = None,
) -> Split:
    """Split rows once into training, validation and test.

    Args:
        n_rows: Number of rows.
        validation: Share of the validation rows.
        test: Share of the test rows.
        seed: The same seed gives the same split.
        labels: Labels by target, missing ones included: stratify over all of them at once, so that each part has
            its share of every class, rare ones first, and of every quantile bin of a number.
        groups: Group of each row: no group is in two parts. With ``labels``, stratified as well as whole groups allow.
        times: Time of each row: training rows come before validation rows, and these before test rows; rows of the
            same time stay together.

    Raises:
        DataError: If the shares leave no training row, there are too few rows or groups, a group or time is missing,
            or ``times`` is combined with another criterion.

    Example:
        >>> split = holdout(6, validation=0.5, labels={"rare": [1, 0, 0, 0, 0, 1]})
        >>> sum(row in (0, 5) for row in split.validation)
        1
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise DataError(
            f"Validation and test shares need to be in 0 to 1 and sum to less than 1, got {validation} and {test}."
        )
    criteria = _criteria(n_rows, labels, groups, times)
    return _parts(np.arange(n_rows), criteria, validation, test, np.random.default_rng([seed, 0]))


def k_folds(
    n_rows: int,
    n_folds: int = 5,
    *,
    validation: float = 0.0,
    repeats: int = 1,
    seed: int = 0,
    labels: Mapping[str, Any] | None = None,
    groups: Any = None,
    times: Any = None,
) -> list[Split]:
    """Split rows into folds, each of which is the test part once; ``repeats`` times, with a new shuffle each.

    By time, the rows are cut into ``n_folds + 1`` blocks; each block but the first is tested by what came before it.

    Args:
        n_rows: Number of rows.
        n_folds: At least 2.
        validation: Share of the rows that are not tested which go to validation, chosen by the same criteria.
        repeats: How often to do it all.
        seed: The same seed gives the same folds.
        labels: See :func:`holdout`.
        groups: See :func:`holdout`.
        times: See :func:`holdout`.

    Raises:
        DataError: See :func:`holdout`; also if there are more folds than rows or groups.

    Example:
        >>> folds = k_folds(6, 3, groups=["a", "a", "b", "b", "c", "c"])
        >>> sorted(fold.test.tolist() for fold in folds)
        [[0, 1], [2, 3], [4, 5]]
    """
    if n_folds < 2:
        raise DataError(f"Folds need to be at least 2, got {n_folds}.")
    if repeats < 1:
        raise DataError(f"Repeats need to be at least 1, got {repeats}.")
    if not 0 <= validation < 1:
        raise DataError(f"The validation share needs to be in 0 to 1, got {validation}.")
    criteria = _criteria(n_rows, labels, groups, times)
    if criteria.ranks is not None:
        if repeats > 1:
            raise DataError("Folds by time are the same in every repeat; ask for one.")
        return _folds_by_time(criteria.ranks, n_folds, validation)
    found = []
    for repeat in range(repeats):
        fold_of = _deal(n_rows, criteria, np.full(n_folds, 1 / n_folds), np.random.default_rng([seed, 1, repeat]))
        _check_parts(fold_of, n_folds, criteria)
        for fold in range(n_folds):
            rest, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            rng = np.random.default_rng([seed, 2, repeat, fold])
            inner = _parts(rest, criteria.of(rest), validation, 0.0, rng)
            found.append(Split(inner.train, inner.validation, test))
    return found


def _criteria(n_rows: int, labels: Mapping[str, Any] | None, groups: Any, times: Any) -> _Criteria:
    if n_rows < 2:
        raise DataError(f"A split needs at least 2 rows, got {n_rows}.")
    if times is not None and (labels is not None or groups is not None):
        raise DataError("A split by time cannot be stratified or grouped as well; give times alone.")
    matrix = label_matrix(labels) if labels else None
    if matrix is not None and len(matrix) != n_rows:
        raise DataError(f"The labels have {len(matrix)} rows, but {n_rows} rows are to be split.")
    return _Criteria(matrix, _codes(groups, n_rows, "group"), _codes(times, n_rows, "time"))


def _codes(values: Any, n_rows: int, what: str) -> np.ndarray | None:
    """Rank of each value among the different ones, or ``None`` if there are no values."""
    if values is None:
        return None
    series = pd.Series(values)
    if len(series) != n_rows:
        raise DataError(f"{n_rows} rows need as many {what}s, got {len(series)}.")
    if series.isna().any():
        row = int(np.flatnonzero(series.isna())[0])
        raise DataError(f"Every row needs a {what}; row {row} has none.")
    if what == "time" and not pd.api.types.is_numeric_dtype(series):
        series = _as_times(series)
    return pd.factorize(series, sort=True)[0].astype(np.int64)


def _as_times(series: pd.Series[Any]) -> pd.Series[Any]:
    """Texts and the like as times, because texts do not sort by time."""
    times = pd.to_datetime(series, errors="coerce", format="ISO8601", utc=True)
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise DataError(f"Times need to be numbers or dates such as 2024-01-31; row {row} has {series.iloc[row]!r}.")
    return times


def _parts(rows: np.ndarray, criteria: _Criteria, validation: float, test: float, rng: np.random.Generator) -> Split:
    """Split ``rows``, to which the criteria belong, into the three parts."""
    shares = np.array([1 - validation - test, validation, test])
    wanted = np.flatnonzero(shares > 0)
    if criteria.ranks is not None:
        part = _deal_by_time(criteria.ranks, np.cumsum(shares[wanted])[:-1])
    else:
        part = _deal(len(rows), criteria, shares[wanted] / shares[wanted].sum(), rng)
    _check_parts(part, len(wanted), criteria)
    split = [np.zeros(0, dtype=np.int64)] * 3
    for position, which in enumerate(wanted):
        split[which] = rows[part == position].astype(np.int64)
    return Split(*split)


def _deal(n_rows: int, criteria: _Criteria, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The part of each row."""
    if criteria.groups is not None:
        return deal_groups(criteria.groups, criteria.labels, shares, rng)
    if criteria.labels is not None:
        return deal_rows(criteria.labels, shares, rng)
    ends = np.round(np.cumsum(shares) * n_rows).astype(np.int64)
    part = np.empty(n_rows, dtype=np.int64)
    part[rng.permutation(n_rows)] = np.searchsorted(ends, np.arange(n_rows), side="right")
    return part


def _deal_by_time(ranks: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The part of each row by time; a time belongs to the part in which its middle row falls."""
    counts = np.bincount(ranks)
    middles = (np.cumsum(counts) - counts / 2) / len(ranks)
    part: np.ndarray = np.searchsorted(ends + 1e-12, middles, side="left")[ranks]
    return part


def _folds_by_time(ranks: np.ndarray, n_folds: int, validation: float) -> list[Split]:
    blocks = _deal_by_time(ranks, np.arange(1, n_folds + 1) / (n_folds + 1))
    _check_parts(blocks, n_folds + 1, _Criteria(None, None, ranks))
    found = []
    for fold in range(1, n_folds + 1):
        before = np.flatnonzero(blocks < fold)
        criteria = _Criteria(None, None, pd.factorize(ranks[before], sort=True)[0])
        inner = _parts(before, criteria, validation, 0.0, np.random.default_rng(0))
        found.append(Split(inner.train, inner.validation, np.flatnonzero(blocks == fold)))
    return found


def _check_parts(part: np.ndarray, n_parts: int, criteria: _Criteria) -> None:
    """Raise if a part is empty."""
    sizes = np.bincount(part, minlength=n_parts)
    if (sizes > 0).all():
        return
    what, count = "rows", len(part)
    for codes, name in ((criteria.groups, "groups"), (criteria.ranks, "different times")):
        if codes is not None:
            what, count = name, int(codes.max()) + 1
    listed = ", ".join(map(str, sizes[:8])) + (", ..." if n_parts > 8 else "")
    raise DataError(
        f"{count} {what} cannot be split into {n_parts} parts of the wanted sizes: one part would be empty "
        f"(sizes {listed}). Ask for fewer or larger parts."
    )


_PARTS = ("train", "validation", "test")


def given_split(column: np.ndarray, name: str, validation: float, seed: int = 0, groups: Any = None) -> Split:
    """The split that a column says; a share of the training rows validates if it names no validation rows.

    Args:
        column: ``train``, ``validation`` or ``test`` for each row.
        name: The column's name, for messages.
        validation: That share.
        seed: Of which rows these are.
        groups: Group of each row; none may be on both sides.

    Raises:
        DataError: If a row has another value, there is no training or test row, or a group is on both sides.

    Example:
        >>> given_split(np.array(["train", "test", "train", "validation"]), "part", 0.2).train
        array([0, 2])
    """
    parts = np.array([str(value).strip().lower() for value in column])
    known = np.isin(parts, _PARTS)
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        raise DataError(
            f"Column {name!r} must say train, validation or test of every row; row {row} has {column[row]!r}."
        )
    train, held_out, test = (np.flatnonzero(parts == part) for part in _PARTS)
    if not len(train) or not len(test):
        raise DataError(f"Column {name!r} names no {'train' if not len(train) else 'test'} row; some are needed.")
    if groups is not None:
        keys = np.asarray(groups).astype(str)
        if len(both := np.intersect1d(keys[np.concatenate([train, held_out])], keys[test])):
            raise DataError(
                f"Column {name!r} has {counted(len(both), 'group')} on both sides, such as {both[0]!r}. Move their "
                "rows, or divide them by --holdout with --group."
            )
    if not len(held_out):
        own = None if groups is None else np.asarray(groups)[train]
        inner = holdout(len(train), validation=validation, seed=seed, groups=own)
        train, held_out = train[inner.train], train[inner.validation]
    return Split(train, held_out, test)
