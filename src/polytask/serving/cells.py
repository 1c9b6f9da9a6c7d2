"""A cell as JSON has it to the value that a column holds, by the kind of the column."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.cells import category_keys
from polytask.data.kinds import Kind

__all__ = ["FORMS", "CellForm"]


@dataclass(frozen=True)
class CellForm:
    """How cells of one kind are read.

    Args:
        wanted: What a cell needs to be, for messages.
        read: A cell's value; raises a ``ValueError``, ``TypeError``, ``OverflowError`` or ``KeyError`` if it is of
            another kind.
        empty: The value of a missing cell.
        dtype: Type of the column's array.
    """

    wanted: str
    read: Callable[[Any], Any]
    empty: Any = None
    dtype: Any = object


def _number(value: Any) -> float:
    if isinstance(value, str):
        if "_" in value:  # Python's own way of writing numbers, and nobody else's
            raise ValueError
        value = value.strip()
    elif not isinstance(value, bool | int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _truth(value: Any) -> float:
    if not isinstance(value, bool | int | float | str):
        raise TypeError
    return _TRUTHS[category_keys([value])[0].casefold()]


_TRUTHS = {"true": 1.0, "1": 1.0, "false": 0.0, "0": 0.0}


def _category(value: Any) -> str:
    if not isinstance(value, bool | int | float | str):
        raise TypeError
    return category_keys([value])[0]


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        raise TypeError
    return value.strip() or None


def _inline_image(value: Any) -> str | None:
    return _inline(value, "data:image/")


def _inline_sound(value: Any) -> str | None:
    return _inline(value, "data:audio/")


def _inline(value: Any, begins: str) -> str | None:
    text = _text(value)
    if text is not None and not text.startswith(begins):
        raise ValueError  # no path that somebody sends is opened
    return text


def _date(value: Any) -> np.datetime64:
    if not isinstance(value, str):
        raise TypeError
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas guesses the format, as it does for tables
            parsed = pd.to_datetime([value], errors="coerce", format="mixed", utc=True)
        if pd.isna(parsed[0]):
            raise ValueError from None
        moment = parsed[0].to_pydatetime()
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "s")


FORMS: dict[Kind, CellForm] = {
    "numeric": CellForm("a finite number", _number, math.nan, np.float64),
    "boolean": CellForm("true, false", _truth, math.nan, np.float64),
    "categorical": CellForm("a text", _category),
    "date": CellForm("a date such as 2024-01-31", _date, np.datetime64("NaT", "s"), "datetime64[s]"),
    "molecule": CellForm("a molecule as SMILES", _text),
    "words": CellForm("a text", _text),
    "image": CellForm("an image of the size of training, as data:image/png;base64,...,", _inline_image),
    "sound": CellForm("a WAV file, as data:audio/wav;base64,...,", _inline_sound),
}
"""By kind of the column."""
