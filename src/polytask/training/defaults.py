"""Settings for tables, by their number of rows, where a recipe gives none."""

from __future__ import annotations

from typing import Any

__all__ = ["for_tables"]

_BATCHES = ((64, 2_000), (128, 8_000), (256, 30_000))


def for_tables(n_rows: int) -> dict[str, Any]:
    """Settings for a table of ``n_rows`` training rows.

    Small batches are further noise, which small tables need, and large ones make the best of a processor. The early
    stopping looks at the mean relative loss of the tasks, which unlike ranks sees how much is won and lost.

    Example:
        >>> for_tables(500)["batch_size"], for_tables(100_000)["batch_size"]
        (64, 512)
    """
    batch_size = next((size for size, most in _BATCHES if n_rows < most), 512)
    return {"batch_size": batch_size, "learning_rate": 3e-3, "weight_decay": 0.1, "stop_rule": "mean"}
