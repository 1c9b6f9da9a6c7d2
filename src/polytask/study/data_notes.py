"""What was noted when the data were read: of the folds together, so that each note is said once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.study.store import KeptFold
from polytask.study.warning import warning

__all__ = ["data_notes"]


def data_notes(folds: Sequence[KeptFold]) -> list[dict[str, Any]]:
    """The notes of the folds as notes of the study; what is so on some folds only says on how many.

    Args:
        folds: The folds.
    """
    found: dict[str, list[str]] = {}
    for fold in folds:
        # What follows the colon is counted in the training rows, and differs from fold to fold.
        for note in {text.partition(": ")[0]: text for text in fold.notes}.items():
            found.setdefault(note[0], []).append(note[1])
    notes = []
    for texts in found.values():
        where = "" if len(texts) == len(folds) else f" (On {len(texts)} of {len(folds)} folds.)"
        notes.append(warning("data", "note", f"{texts[0]}{where}"))
    return notes
