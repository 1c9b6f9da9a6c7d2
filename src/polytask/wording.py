"""Numbers, nouns and suggested names as messages have them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["counted", "nearest"]


def counted(n: int, one: str, several: str = "") -> str:
    """A number and its noun, for messages.

    Args:
        n: The number.
        one: The noun for 1.
        several: The noun for others; with an ``s`` if left out.

    Example:
        >>> counted(1, "epoch"), counted(1200, "batch", "batches"), counted(0, "row")
        ('1 epoch', '1,200 batches', '0 rows')
    """
    return f"{n:,} {one if n == 1 else several or f'{one}s'}"


_NEAR = 0.66
"""How alike two names are, from 0 to 1, before one is suggested for the other: a slip of the pen, not another word."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant: one like it, or one that it begins; ``None`` if there is none.

    Example:
        >>> nearest("nash", ["equal", "nash_mtl"]), nearest("tabnet", ["unet"])
        ('nash_mtl', None)
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=_NEAR)
    return next(iter(near or [candidate for candidate in names if name and candidate.startswith(name)]), None)
