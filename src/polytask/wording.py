"""Numbers and nouns as messages have them."""

from __future__ import annotations

__all__ = ["counted"]


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
