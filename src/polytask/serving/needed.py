"""The columns of a table that a bundle reads, and how a file of text has to be read for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from polytask.bundle import Bundle
from polytask.data.cells import category_keys
from polytask.data.columns import CategoricalColumn

__all__ = ["NeededColumns", "needed_columns"]


@dataclass(frozen=True)
class NeededColumns:
    """What a bundle reads of the rows of a source.

    Args:
        names: All columns that are read.
        texts: Those that hold texts, also where all of them look like numbers.
        literal: Those whose texts are taken as they are written: ``NA`` is one, and no missing value.
    """

    names: frozenset[str]
    texts: frozenset[str] = frozenset()
    literal: frozenset[str] = frozenset()

    def ignored(self, names: Iterable[str]) -> list[str]:
        """Which of a table's columns are not read, in their order.

        Example:
            >>> NeededColumns(frozenset({"age"})).ignored(["id", "age", "name"])
            ['id', 'name']
        """
        return [name for name in dict.fromkeys(names) if name not in self.names]


def needed_columns(bundle: Bundle, source: str) -> NeededColumns:
    """The columns that a bundle reads of a source's tables; none where its rows are arrays."""
    names: set[str] = {bundle.by["column"]} if bundle.by else set()
    texts: set[str] = set()
    literal: set[str] = set()
    if bundle.by and _are_texts(key for tasks in bundle.by["tasks"].values() for key in tasks):
        texts.add(bundle.by["column"])
    if (alone := bundle.column(source)) is not None:
        names.add(alone)
        (literal if source in bundle.texts else texts).add(alone)
    for transform in bundle.transforms_of(source):
        names.update(transform.needed)
        texts.update(set(transform.needed) - set(transform.read))  # molecules, free texts, paths of images
        texts.update(
            name
            for name, column in transform.read.items()
            if isinstance(column, CategoricalColumn) and _are_texts(column.categories)
        )
    return NeededColumns(frozenset(names), frozenset(texts), frozenset(literal))


def _are_texts(keys: Iterable[str]) -> bool:
    """Whether these are not the same once pandas has read them as numbers, such as ``007``, or as truth values."""
    given = list(keys)
    numbers = pd.to_numeric(pd.Series(given, dtype=object), errors="coerce")
    return category_keys(numbers) != given and not set(given) <= {"True", "False"}
