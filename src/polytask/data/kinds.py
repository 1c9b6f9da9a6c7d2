"""What a column of a table holds, judged by its values."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import pandas as pd

from polytask.data.cells import TRUTH
from polytask.errors import InputError

__all__ = ["KINDS", "Kind", "infer_kind"]

Kind: TypeAlias = Literal["numeric", "boolean", "categorical", "date", "molecule", "hashed", "words", "image", "sound"]
KINDS: tuple[Kind, ...] = ("numeric", "boolean", "categorical", "date", "molecule", "hashed", "words", "image")
"""Kinds that a column of a table can be given; recordings are read alone, not beside other columns."""

_TEXT_SHARE = 0.5
_TEXT_DISTINCT = 20


def infer_kind(values: pd.Series[Any], name: str) -> Kind | Literal["text", "empty"]:
    """What a column holds, judged by its values.

    Numbers are numeric whatever their number of distinct values; texts are dates if all are written as
    year-month-day, boolean if all are true or false, numeric if all are numbers, ``text`` if there are more than 20
    different ones and more than half as many as rows, and categorical otherwise.

    Raises:
        InputError: If the column holds lists, dicts, complex numbers or other things.

    Example:
        >>> infer_kind(pd.Series(["2024-01-31", None]), "day"), infer_kind(pd.Series(["a", "b", "a"]), "group")
        ('date', 'categorical')
    """
    types = pd.api.types
    if values.isna().all():
        return "empty"
    if types.is_bool_dtype(values):
        return "boolean"
    if isinstance(values.dtype, pd.CategoricalDtype):
        return "categorical"
    if types.is_complex_dtype(values):
        raise InputError(f"Column {name!r} holds complex numbers. Give their real parts or leave the column out.")
    if types.is_numeric_dtype(values) or types.is_timedelta64_dtype(values):
        return "numeric"
    if types.is_datetime64_any_dtype(values):
        return "date"
    return _kind_of_objects(values.dropna(), name)


def _kind_of_objects(present: pd.Series[Any], name: str) -> Kind | Literal["text"]:
    held = pd.api.types.infer_dtype(present)
    by_type: dict[str, Kind] = {"boolean": "boolean", "date": "date", "datetime": "date", "datetime64": "date"}
    by_type.update(dict.fromkeys(("integer", "floating", "mixed-integer-float", "decimal"), "numeric"))
    if held in by_type:
        return by_type[held]
    try:
        distinct = pd.Series(pd.unique(present))
    except TypeError as error:
        held_type = type(present.iloc[0]).__name__
        raise InputError(
            f"Column {name!r} holds values of type {held_type}, which are no table cells. Leave it out."
        ) from error
    texts = distinct.astype(str).str.strip()
    if set(texts.str.casefold()) <= set(TRUTH):
        return "boolean"
    if (
        texts.str.match(r"\d{4}-\d\d?-\d\d?").all()
        and pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True).notna().all()
    ):
        return "date"
    if pd.to_numeric(texts, errors="coerce").notna().all():
        return "numeric"
    if len(distinct) > _TEXT_DISTINCT and len(distinct) > _TEXT_SHARE * len(present):
        return "text"
    return "categorical"
