"""Signs that a study would fool itself, looked for before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.kinds import infer_kind
from polytask.data.molecules import canonical
from polytask.data.splits import Split
from polytask.data.tables import Table
from polytask.data.thumbnails import contents, located
from polytask.study.opening import LongData
from polytask.study.several import SeveralData, split_of
from polytask.study.warning import warning
from polytask.tasks.task import Task
from polytask.training.data_sets import DataSet, TableData

__all__ = ["leak_warnings"]

_ROWS = 3_000
"""Rows on which single columns are tried."""
_MOST_COLUMNS = 300
"""More columns than this are not tried one by one, but for those that correlate most."""
_ALMOST = 0.99
"""Share of the variance, or area under the curve, from which one column alone is suspicious."""
_COPY = 0.9999
_ENTITY = re.compile(
    r"(^|[^a-z])(id|key|code|uuid|patient|subject|person|user|customer|client|household|machine|device|site)s?($|[^a-z])"
)

Warnings = list[dict[str, Any]]


def leak_warnings(
    data: DataSet,
    tasks: Sequence[Task],
    group: str | None = None,
    time: str | None = None,
    split: Split | None = None,
) -> Warnings:
    """Look for the same entity or row on both sides, inputs that give a target away, and targets that are copies.

    Args:
        data: The data; only tables are looked at.
        tasks: The tasks.
        group: Column by which rows are kept together, if any.
        time: Column of times, if any.
        split: The first of the divisions, in which what is on both sides is counted.

    Raises:
        InputError: If an input is certainly a copy of a target.

    Example:
        >>> from polytask.tasks import Regression
        >>> from polytask.training.data_sets import TableData
        >>> rng = np.random.default_rng(0)
        >>> y = rng.normal(size=200)
        >>> table = {"x": rng.normal(size=200), "echo": y**3, "y": y}
        >>> found = leak_warnings(TableData("data", table, targets=["y"]), [Regression(name="y")])
        >>> found[0]["kind"], found[0]["columns"]
        ('giveaway', ['echo'])
    """
    if isinstance(data, LongData):
        return leak_warnings(data.plain, data.asked, group, time, split)
    if isinstance(data, SeveralData):
        return _of_sources(data, tasks, (group, time), split)
    if not isinstance(data, TableData):
        return []
    data.check(tasks)
    found = [*_giveaways(data, tasks), *_copies(data.table, tasks), *_repeated(data, tasks, group, split)]
    if group is None and time is None:
        found += _entities(data, split)
    order = ("warning", "note")
    return sorted(found, key=lambda one: order.index(one["severity"]))


def _of_sources(
    data: SeveralData, tasks: Sequence[Task], columns: tuple[str | None, str | None], split: Split | None
) -> Warnings:
    """What is found in each source, and rows that are in two of them."""
    found: Warnings = []
    own = split_of(data, split) if split is not None else {}
    hashes: dict[str, np.ndarray] = {}
    for d in data.sets:
        for sign in leak_warnings(d, [task for task in tasks if d.has(task)], *columns, own.get(d.name)):
            found.append({**sign, "words": f"Source {d.name!r}: {sign['words']}"})
        if isinstance(d, TableData) and (rows := _hashes(d, sorted(d.inputs))) is not None:
            hashes[d.name] = rows
    for one, other in combinations(hashes, 2):
        inputs = [sorted(d.inputs) for d in data.sets if isinstance(d, TableData) and d.name in (one, other)]
        if inputs[0] == inputs[1] and columns[0] is None and (n := int(np.isin(hashes[one], hashes[other]).sum())):
            words = (
                f"{n:,} of {len(hashes[one]):,} rows of {one!r} have the same inputs as a row of {other!r}, and may be "
                "tested in one while the other trains on them. If they are the same thing, give --group."
            )
            found.append(warning("duplicates", "warning" if n > 0.05 * len(hashes[one]) else "note", words))
    return found


def _giveaways(data: TableData, tasks: Sequence[Task]) -> Warnings:
    """Inputs that predict a target almost perfectly, each on its own, by a small tree on other rows."""
    found = []
    for task in tasks:
        for target in task.targets:
            labels = data.table.column(target)
            rows = _sample(np.flatnonzero(labels.notna().to_numpy()))
            if len(rows) < 20:
                continue
            y, is_number = _as_target(labels.iloc[rows], task)
            codes = {name: _codes(data.table.column(name).iloc[rows]) for name in data.inputs}
            for name in _likely(codes, y):
                score = _alone(codes[name], y, is_number)
                if score >= _ALMOST:
                    what = "R2" if is_number else "balanced accuracy"
                    words = (
                        f"Column {name!r} alone predicts {target!r} almost perfectly ({what} {score:.3f}). "
                        "Is it known before the answer is? If not, drop it."
                    )
                    found.append(warning("giveaway", "warning", words, task.name, [name]))
    return found


def _as_target(labels: pd.Series[Any], task: Task) -> tuple[np.ndarray, bool]:
    if task.is_number:
        return pd.to_numeric(labels, errors="coerce").to_numpy(dtype=np.float64), True
    return pd.factorize(labels)[0].astype(np.float64), False


def _codes(values: pd.Series[Any]) -> np.ndarray:
    """A column as numbers: as they are, or positions among the sorted values."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        # What a tree cannot hold is refused by name when the column is learned; here its place among all counts.
        is_huge = np.abs(numbers) > np.finfo(np.float32).max
        return pd.Series(numbers).rank().to_numpy() if is_huge.any() else numbers
    codes = pd.factorize(values.astype(str).where(values.notna()), sort=True)[0].astype(np.float64)
    return np.where(codes < 0, np.nan, codes)


def _likely(codes: dict[str, np.ndarray], y: np.ndarray) -> list[str]:
    """All columns, or of very many those whose ranks correlate most with the target's."""
    names = list(codes)
    if len(names) <= _MOST_COLUMNS:
        return names
    matrix = np.column_stack([np.nan_to_num(pd.Series(codes[name]).rank().to_numpy()) for name in names])
    ranks = pd.Series(y).rank().to_numpy()
    centred = matrix - matrix.mean(0)
    spread = np.sqrt((centred**2).sum(0))
    together = np.abs((ranks - ranks.mean()) @ centred) / np.where(spread > 0, spread, np.inf)
    return [names[position] for position in np.argsort(-together)[:_MOST_COLUMNS]]


def _alone(column: np.ndarray, y: np.ndarray, is_number: bool) -> float:
    """How well one column says the target: squared rank correlation, or R2 or accuracy of a tree on new rows."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    x = column[:, None]
    half = np.arange(len(y)) % 2 == 0
    # An identifier has a value a row and predicts nothing on other rows; the leaves need several rows.
    options: dict[str, Any] = {"min_samples_leaf": 2 if len(y) < 200 else 5, "random_state": 0}
    if is_number:
        spread = y[~half].var()
        both = ~np.isnan(column)
        # A monotone function of a few rows: the tree's steps would be too coarse.
        if both.sum() >= 20 and np.ptp(column[both]) > 0 and np.ptp(y[both]) > 0 and both.mean() > _ALMOST:
            mine, theirs = (pd.Series(values[both]).rank().to_numpy() for values in (column, y))
            if (together := float(np.corrcoef(mine, theirs)[0, 1]) ** 2) >= _ALMOST:
                return together
        answers = DecisionTreeRegressor(**options).fit(x[half], y[half]).predict(x[~half])
        return float(1 - ((answers - y[~half]) ** 2).mean() / spread) if spread > 0 else 0.0
    if len(np.unique(y[half])) < 2:
        return 0.0
    answers = DecisionTreeClassifier(class_weight="balanced", **options).fit(x[half], y[half]).predict(x[~half])
    truth = y[~half]
    return float(np.mean([(answers[truth == c] == c).mean() for c in np.unique(truth)]))


def _copies(table: Table, tasks: Sequence[Task]) -> Warnings:
    """Targets that say the same."""
    columns = {target: _codes(table.column(target)) for task in tasks for target in task.targets}
    found = []
    for one, other in combinations(list(columns)[:_MOST_COLUMNS], 2):
        a, b = columns[one], columns[other]
        both = ~(np.isnan(a) | np.isnan(b))
        if both.sum() < 20 or a[both].std() == 0 or b[both].std() == 0:
            continue
        if abs(np.corrcoef(a[both], b[both])[0, 1]) >= _COPY:
            words = (
                f"Targets {one!r} and {other!r} say the same where both are there; "
                "what one gains by the other is no merit."
            )
            found.append(warning("copied targets", "warning", words, None, [one, other]))
    return found


def _repeated(data: TableData, tasks: Sequence[Task], group: str | None, split: Split | None) -> Warnings:
    """Rows with the same inputs, which may fall on both sides."""
    table = data.table
    names = [name for name in data.inputs if not _is_free_text(data, name)]
    inputs = _hashes(data, names) if names else None
    if inputs is None:
        return []
    n_same = int(pd.Series(inputs).duplicated(keep=False).sum())
    if not n_same or (group is not None and _is_within(inputs, table.column(group))):
        return []
    targets = [target for task in tasks for target in task.targets]
    whole = _hashes(data, [*names, *targets])
    n_whole = 0 if whole is None else int(pd.Series(whole).duplicated(keep=False).sum())
    share, where = n_same / len(table), "may be on both sides"
    if split is not None:
        n_both = int(np.isin(inputs[split.test], inputs[split.train]).sum())
        share = n_both / max(len(split.test), 1)
        where = f"{n_both:,} of the {len(split.test):,} test rows of the first fold have one among the training rows"
    what = "molecule" if any(data.transform.kinds.get(name) == "molecule" for name in names) else "inputs"
    words = (
        f"{n_same:,} of {len(table):,} rows have the same {what} as another row ({n_whole:,} the same targets too); "
        f"{where}. If they are the same thing, drop the copies or give --group."
    )
    return [warning("duplicates", "warning" if share > 0.05 else "note", words)]


def _is_free_text(data: TableData, name: str) -> bool:
    """Whether no model reads the column, as names and identifiers, which would tell copies apart."""
    return name not in data.transform.kinds and infer_kind(data.table.column(name), name) == "text"


def _hashes(data: TableData, names: Sequence[str]) -> np.ndarray | None:
    """A hash of each row, the same for copies of a molecule or an image; ``None`` if a column cannot be hashed."""
    total = np.zeros(len(data.table), dtype=np.uint64)
    for position, name in enumerate(names):
        values = data.table.column(name)
        if data.transform.kinds.get(name) == "molecule" and name in data.inputs:
            values = pd.Series(canonical(name, values), dtype=object)
        elif data.transform.kinds.get(name) == "image" and name in data.inputs:
            values = pd.Series(contents(located(name, values, data.table.folder)), dtype=object)
        try:
            own = pd.util.hash_pandas_object(values, index=False).to_numpy()
        except TypeError:
            return None
        total = total * np.uint64(1_000_003) + own * np.uint64(2 * position + 1)
    return total


def _is_within(hashes: np.ndarray, groups: pd.Series[Any]) -> bool:
    """Whether equal rows always are of one group."""
    pairs = pd.DataFrame({"row": hashes, "group": groups.to_numpy()}).drop_duplicates()
    return not pairs["row"].duplicated().any()


def _entities(data: TableData, split: Split | None) -> Warnings:
    """Columns that name things which have several rows each."""
    found = []
    for name in data.table.names:
        values = data.table.column(name)
        if not _ENTITY.search(_words(name)) or pd.api.types.is_float_dtype(values):
            continue
        n_values, n_rows = values.nunique(), int(values.notna().sum())
        if not 5 <= n_values <= n_rows / 2:
            continue
        where = "rows of the same one will be on both sides"
        if split is not None:
            sides = [set(values.iloc[rows].dropna()) for rows in (split.train, split.test)]
            if not (n_both := len(sides[0] & sides[1])):
                continue
            where = f"of {n_both:,} of its {n_values:,} values, rows are on both sides"
        words = (
            f"Column {name!r} seems to name things that have about {n_rows / n_values:.0f} rows each; {where}. "
            f"If so, give --group {name}."
        )
        found.append(warning("entity", "warning", words, None, [name]))
    return found


def _words(name: str) -> str:
    """A column's name in small letters, its words apart: ``patientId`` and ``Subject#`` alike."""
    return re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()


def _sample(rows: np.ndarray) -> np.ndarray:
    if len(rows) <= _ROWS:
        return rows
    return np.sort(np.random.default_rng(0).permutation(rows)[:_ROWS])
