"""What is learned of one input column from the training rows, or why it is left out."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from polytask.data.cells import nearly_numbers
from polytask.data.columns import CategoricalColumn, NumericColumn, Scaling
from polytask.data.image_features import ImageColumn
from polytask.data.kinds import Kind, infer_kind
from polytask.data.molecules import MoleculeColumn
from polytask.data.thumbnails import is_image_file
from polytask.data.word_bits import WordsColumn

__all__ = [
    "BITS_COLUMNS",
    "NUMBERS_OF_ROWS",
    "BitsColumn",
    "LearningOptions",
    "learn_column",
    "look_like_identifiers",
    "of_source",
]

BitsColumn: TypeAlias = MoleculeColumn | WordsColumn | ImageColumn
"""A column of which a cell becomes many numbers, side by side with those of the others of its sort."""

BITS_COLUMNS: dict[str, type[BitsColumn]] = {"molecule": MoleculeColumn, "words": WordsColumn, "image": ImageColumn}
"""By kind."""

_FEW = 50
"""Rows below which different whole numbers are no surprise."""
_GAPS = 3
"""Numbers of rows are at most so many times as many as there are rows: some are missing, or in the test rows."""
NUMBERS_OF_ROWS = (
    "Column {name!r} has another whole number in each row, close to each other, as identifiers and row numbers have. "
    "It is read as a number; if it only names the rows, leave it out by --drop {quoted}."
)
"""What is noted where :func:`look_like_identifiers` says so."""
_ONE_VALUE = "it has one value only in the training rows"
_ALIKE = {
    "molecule": "its molecules are all alike in the training rows",
    "words": "no word comes in some of its training texts and not in all",
    "image": "its images are all alike in the training rows",
}


@dataclass(frozen=True)
class LearningOptions:
    """How columns are learned, see :class:`~polytask.data.transform.TableTransform`."""

    scaling: Scaling
    min_count: int
    max_categories: int
    buckets: int


def learn_column(
    name: str, values: pd.Series[Any], kind: Kind | None, options: LearningOptions
) -> NumericColumn | CategoricalColumn | BitsColumn | str:
    """The column as learned from its training values, or the reason why it is left out.

    Args:
        name: The column.
        values: Its cells in the training rows.
        kind: What it was said to hold; judged by its values if ``None``.
        options: How it is learned.

    Raises:
        InputError: If a cell is not of the kind, or infinite; names the row.

    Example:
        >>> learn_column("id", pd.Series([7, 7, 7]), None, LearningOptions("standard", 2, 1000, 1000))
        'it has one value only in the training rows'
    """
    found = kind or infer_kind(values, name)
    if found == "empty" or values.isna().all():
        return "it has no value in the training rows"
    if found == "text":
        return _about_texts(name, values)
    if found in BITS_COLUMNS:
        bits = BITS_COLUMNS[found].fit(name, values)
        return bits if bits.bits else _ALIKE[found]
    if found in ("categorical", "hashed"):
        categories, is_constant = CategoricalColumn.fit(name, values, options.min_count, options.max_categories)
        if found == "hashed":
            return _ONE_VALUE if values.nunique() < 2 else replace(categories, buckets=options.buckets)
        return "it has one value only, or only rare ones, in the training rows" if is_constant else categories
    numbers = NumericColumn.fit(name, found, values, options.scaling)
    return numbers if numbers.features else _ONE_VALUE


def look_like_identifiers(values: pd.Series[Any]) -> bool:
    """Whether numbers look like those of rows: whole, all different, and close together.

    Example:
        >>> look_like_identifiers(pd.Series(range(1000, 1100))), look_like_identifiers(pd.Series([1, 1, 2] * 40))
        (True, False)
    """
    present = values.dropna()
    if not pd.api.types.is_numeric_dtype(present) or pd.api.types.is_bool_dtype(present) or len(present) < _FEW:
        return False
    numbers = present.to_numpy(dtype=np.float64)
    are_whole = bool((numbers == np.floor(numbers)).all())
    return are_whole and np.ptp(numbers) < _GAPS * len(numbers) and len(np.unique(numbers)) == len(numbers)


def of_source(note: str, name: str) -> str:
    """A note on a column of one of several sources, whose settings are given with its name.

    Example:
        >>> of_source("Column 'a' is left out: --set kinds.a=words reads it.", "shop")
        "Column 'a' is left out: --set data.shop.kinds.a=words reads it."
    """
    return re.sub(r"(--set '?)kinds\.", lambda found: f"{found[1]}data.{name}.kinds.", note)


def _about_texts(name: str, values: pd.Series[Any]) -> str:
    """Why a column of texts is left out, and how it can be read."""
    image, words, categorical = (
        f"--set {shlex.quote(f'kinds.{name}={kind}')}" for kind in ("image", "words", "categorical")
    )
    way = f"{image} looks at the files" if is_image_file(values) else f"{words} reads what they say"
    return (
        f"its texts are nearly all different{nearly_numbers(values)}; "
        f"{way}, {categorical} takes each as a thing of its own"
    )
