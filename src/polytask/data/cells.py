"""The cells of a column to plain numbers: what counts as a number, a truth value, a date, the same category."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from polytask.errors import InputError

__all__ = ["READERS", "TRUTH", "category_keys", "check_finite", "nearly_numbers"]

TRUTH = {"true": 1.0, "false": -1.0}
_AS_BEFORE = "Give it as the training rows had it; or train anew, with another kind of column (kinds.NAME)."
_NEARLY = 0.2
"""Share of numbers among texts from which the others are taken for slips."""


def category_keys(values: Any) -> list[str]:
    """One text for each category, the same for ``1``, ``1.0``, ``True`` read as text, and ``" 1"``.

    Example:
        >>> category_keys([1, 1.0, "1", " a", 0.5, True])
        ['1', '1', '1', 'a', '0.5', 'True']
    """
    return [_category_key(value) for value in values]


def _category_key(value: Any) -> str:
    if isinstance(value, str):
        text = value.strip()
        return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdecimal() else text
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def nearly_numbers(values: pd.Series[Any]) -> str:
    """What keeps texts from being numbers, for a message, if a fifth of them are; nothing otherwise.

    Example:
        >>> nearly_numbers(pd.Series(["410", "1,755", "-", "98.5"]))
        ", and 50 % of them are numbers, but not '1,755': write all as numbers, or leave cells empty"
        >>> nearly_numbers(pd.Series(["V1", "V2"]))
        ''
    """
    texts = values.dropna().astype(str)
    are_numbers = pd.to_numeric(texts.str.strip(), errors="coerce").notna()
    if are_numbers.mean() < _NEARLY or are_numbers.all():
        return ""
    other = texts[~are_numbers].iloc[0]
    share = f"{are_numbers.mean():.0%}".replace("%", " %")
    return f", and {share} of them are numbers, but not {other!r}: write all as numbers, or leave cells empty"


def check_finite(numbers: np.ndarray, values: pd.Series[Any], name: str) -> None:
    """Raise if a number is infinite; NaN is missing and passes.

    Raises:
        InputError: Naming the column and the row.
    """
    infinite = np.isinf(numbers)
    if infinite.any():
        row = values.index[int(infinite.argmax())]
        raise InputError(
            f"Column {name!r}, row {row}: the value is infinite. Replace it by a number, or by a missing value.",
            name,
        )


def _numbers(values: pd.Series[Any], name: str) -> dict[str, np.ndarray]:
    types = pd.api.types
    if types.is_timedelta64_dtype(values):
        return {"": values.dt.total_seconds().to_numpy(dtype=np.float64)}
    if types.is_datetime64_any_dtype(values):
        raise InputError(f"Column {name!r} is read as numbers, got dates. {_AS_BEFORE}", name)
    if types.is_numeric_dtype(values) or types.is_bool_dtype(values):
        return {"": values.to_numpy(dtype=np.float64, na_value=np.nan)}
    codes, distinct = pd.factorize(values)
    parsed = pd.to_numeric(pd.Series(distinct, dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    numbers = np.append(parsed, np.nan)[codes]
    _check_parsed(values, pd.Series(numbers), name, "numbers")
    return {"": numbers}


def _truths(values: pd.Series[Any], name: str) -> dict[str, np.ndarray]:
    known = {"1": 1.0, "0": -1.0, **TRUTH}
    codes, distinct = pd.factorize(values)
    table = [known.get(key.casefold(), np.nan) for key in category_keys(distinct)]
    numbers = np.array([*table, np.nan])[codes]
    _check_parsed(values, pd.Series(numbers), name, "true and false")
    return {"": numbers}


def _dates(values: pd.Series[Any], name: str) -> dict[str, np.ndarray]:
    if pd.api.types.is_numeric_dtype(values) and values.notna().any():
        raise InputError(f"Column {name!r} is read as dates, got numbers. {_AS_BEFORE}", name)
    parsed = values
    if not pd.api.types.is_datetime64_any_dtype(values):
        parsed = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)
        unread = parsed.isna() & values.notna()
        if unread.any():
            others = pd.to_datetime(values.where(unread), errors="coerce", format="mixed", utc=True)
            parsed = parsed.where(~unread, others)
        _check_parsed(values, parsed, name, "dates")
    stamps = pd.DatetimeIndex(parsed)
    if stamps.tz is not None:
        stamps = stamps.tz_convert("UTC").tz_localize(None)
    seconds = stamps.to_numpy().astype("datetime64[s]")
    days = np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64) / 86_400)
    angle = 2 * np.pi * (stamps.day_of_year.to_numpy(dtype=np.float64) - 1) / 365.25
    return {
        "timestamp": days,
        "year": stamps.year.to_numpy(dtype=np.float64),
        "month": stamps.month.to_numpy(dtype=np.float64),
        "day of week": stamps.day_of_week.to_numpy(dtype=np.float64),
        "day of year, sine": np.sin(angle),
        "day of year, cosine": np.cos(angle),
        "hour": stamps.hour.to_numpy(dtype=np.float64),
    }


def _check_parsed(values: pd.Series[Any], parsed: pd.Series[Any], name: str, what: str) -> None:
    wrong = parsed.isna().to_numpy() & values.notna().to_numpy()
    if wrong.any():
        first = int(wrong.argmax())
        raise InputError(
            f"Column {name!r} holds {what}, but row {values.index[first]} has {values.iloc[first]!r}. "
            "Correct it, or train with the column as a categorical one.",
            name,
        )


READERS: dict[str, Callable[[pd.Series[Any], str], dict[str, np.ndarray]]] = {
    "numeric": _numbers,
    "boolean": _truths,
    "date": _dates,
}
"""By kind: a column and its name to the numbers of each part, NaN where missing."""
