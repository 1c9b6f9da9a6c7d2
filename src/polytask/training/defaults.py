"""Settings for tables, by their number of rows, where a recipe gives none."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

__all__ = ["for_tables"]

_BATCHES = ((64, 2_000), (128, 8_000), (256, 30_000))


_FEW = 2_000
_PATIENT = {"epochs": 300, "patience_share": 1.0, "dropout_fades": True}


def for_tables(n_rows: int, given: Collection[str] = ()) -> dict[str, Any]:
    """Settings for a table of ``n_rows`` training rows.

    Small batches are further noise, which small tables need, and large ones make the best of a processor. The early
    stopping looks at the mean relative loss of the tasks, which unlike ranks sees how much is won and lost. Where rows
    are few, a training waits as long again as the best epoch took: labels that hold next to no noise are learned for
    hundreds of epochs, and others are not trained longer than twice. The former are also
    learned with less and less dropout.

    Args:
        n_rows: Training rows.
        given: Settings that the recipe gives; one with a patience of its own is left to it.

    Example:
        >>> for_tables(500)["batch_size"], for_tables(100_000)["batch_size"]
        (64, 512)
        >>> "epochs" in for_tables(500), "epochs" in for_tables(500, ["patience"]), "epochs" in for_tables(5_000)
        (True, False, False)
    """
    batch_size = next((size for size, most in _BATCHES if n_rows < most), 512)
    patient = _PATIENT if n_rows < _FEW and "patience" not in given else {}
    return {"batch_size": batch_size, "learning_rate": 3e-3, "weight_decay": 0.1, "stop_rule": "mean", **patient}
