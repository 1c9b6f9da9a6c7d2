"""What of a data set an encoder reads, where that is one column of files or texts, or the files of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.audio import ENDINGS as SOUNDS
from polytask.data.decoding import Form
from polytask.data.files import INLINE, Files, labels_of_names
from polytask.data.tables import FrameTable, Table
from polytask.data.thumbnails import ENDINGS as IMAGES
from polytask.errors import DataError, RecipeError

__all__ = ["FILE", "Reads", "form_of", "is_of_files", "listed"]

FILE = "file"
"""Name of the column of files where they are those of a folder."""


@dataclass(frozen=True)
class Reads:
    """The one column that the encoder reads, and how.

    Args:
        column: The column; ``file`` for those of a folder.
        form: ``pixels`` of image files, ``waves`` of WAV files, ``words`` of texts; by the cells if ``None``.
        pattern: For folders, a regular expression for the names of the files, whose named groups become columns; if
            ``None``, the column ``folder`` has the folder that each lies in.
        side: Pixels a side that all images are brought to; if ``None`` they must have one size.
        seconds: How much of each recording is kept.
        rate: Samples a second that all are brought to; if ``None`` that of the first.
        longest: So many words of a text are read.

    Raises:
        RecipeError: If a number is not positive.
    """

    column: str = FILE
    form: Form | None = None
    pattern: str | None = None
    side: int | None = None
    seconds: float | None = None
    rate: int | None = None
    longest: int = 200

    def __post_init__(self) -> None:
        for name in ("side", "seconds", "rate", "longest"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise RecipeError(f"reads.{name} must be above 0, got {value!r}.")


def is_of_files(data: Any) -> bool:
    """Whether a path is that of a folder or archive of files, and not of a table."""
    if not isinstance(data, str | Path):
        return False
    path = Path(data)
    return path.is_dir() or (path.suffix.lower() == ".zip" and len(path.suffixes) == 1 and path.exists())


def listed(path: Path, reads: Reads) -> tuple[Table, Form]:
    """The files of a folder or archive as a table: their names, and what these say.

    Raises:
        DataError: If there is none, or there are images and recordings.
        RecipeError: If the names do not match the pattern.
    """
    files, known = Files(path), ", ".join((*IMAGES, *SOUNDS))
    found: dict[Form, list[str]] = {"pixels": files.names(IMAGES), "waves": files.names(SOUNDS)}
    form: Form = reads.form or ("pixels" if found["pixels"] else "waves")
    if not found.get(form):
        what = "a folder" if path.is_dir() else "an archive"
        raise DataError(
            f"{path} is {what} with no file that can be read as {reads.form or 'pixels or waves'} ({known}). For a "
            "table give the table's file."
        )
    if reads.form is None and all(found.values()):
        raise DataError(
            f"{path} holds {len(found['pixels'])} images and {len(found['waves'])} recordings: say which are meant by "
            "reads.form=pixels or reads.form=waves."
        )
    names = np.array(found[form], dtype=object)
    frame = pd.DataFrame({FILE: names, **labels_of_names(found[form], reads.pattern)})
    table = FrameTable(frame, str(path))
    table.folder = path
    return table, form


def form_of(cells: pd.Series[Any]) -> Form:
    """The form that a column's cells call for."""
    texts = cells.dropna().astype(str).str.strip().str.lower()
    if texts.str.startswith(f"{INLINE}image/").mean() > 0.5 or texts.str.endswith(IMAGES).mean() > 0.5:
        return "pixels"
    if texts.str.startswith(f"{INLINE}audio/").mean() > 0.5 or texts.str.endswith(SOUNDS).mean() > 0.5:
        return "waves"
    return "words"
