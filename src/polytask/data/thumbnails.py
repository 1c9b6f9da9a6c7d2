"""Image files, or images in cells, brought to a few pixels."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from polytask.data.images import opened_image
from polytask.errors import InputError

__all__ = [
    "ENDINGS",
    "Thumbnail",
    "contents",
    "is_image_file",
    "located",
    "n_pixels_of",
    "shown_cell",
    "shown_size",
    "thumbnail_of",
]

_SIDE = 32
"""Images are brought to at most so many pixels a side before anything is learned of them."""
_REMEMBERED = 50_000
_INLINE = "data:image/"
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")

Thumbnail: TypeAlias = tuple[tuple[int, int], bytes]
"""Size of the image, and the bytes ``[h, w]`` or ``[h, w, 3]`` of the small one."""


def located(name: str, values: pd.Series[Any], folder: Path | None) -> pd.Series[Any]:
    """The cells with their paths as seen from here.

    Args:
        name: The column.
        values: Paths, or images themselves.
        folder: Where relative paths start; ``None`` if no file may be opened, because others wrote the paths.

    Raises:
        InputError: If a file may not be opened.
    """

    def path(cell: Any) -> Any:
        text = str(cell).strip()
        if not text:
            return None
        if text.startswith(_INLINE):
            return text
        if folder is None:
            raise InputError(
                f"Column {name!r} needs images themselves here, as data:image/png;base64,...; got {shown_cell(text)}. "
                "No path that somebody sends is opened.",
                name,
            )
        return str(folder / text)

    return values.astype(object).where(values.notna(), None).map(path, na_action="ignore")


def is_image_file(values: pd.Series[Any]) -> bool:
    """Whether most cells look like names of image files."""
    return bool(values.dropna().astype(str).str.strip().str.lower().str.endswith(ENDINGS).mean() > 0.5)


def contents(values: pd.Series[Any]) -> list[str | None]:
    """A digest of what each image shows, the same for copies under other names; its cell where it cannot be read."""
    codes, distinct = pd.factorize(values)
    table: list[str | None] = []
    for cell in distinct:
        image = thumbnail_of(str(cell))
        table.append(
            str(cell) if isinstance(image, str) else hashlib.sha256(repr(image[0]).encode() + image[1]).hexdigest()
        )
    table.append(None)
    return [table[code] for code in codes]


def thumbnail_of(cell: str, wanted: tuple[int, int] | None = None) -> Thumbnail | str:
    """The small image, or what is wrong with it; without its pixels if it has not the size that is wanted."""
    if cell.startswith(_INLINE):
        head, _, body = cell.partition(",")
        try:
            raw = base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
        except (binascii.Error, ValueError):
            raw = b""
        return (
            _decoded(shown_cell(cell), lambda: io.BytesIO(raw), wanted) if raw else f"{shown_cell(cell)} is not base64"
        )
    path = Path(cell)
    try:
        told = path.stat()
    except (OSError, ValueError):
        return f"{cell!r} is not there"
    return _remembered(cell, told.st_mtime_ns, told.st_size, wanted) if path.is_file() else f"{cell!r} is no file"


@lru_cache(maxsize=_REMEMBERED)
def _remembered(cell: str, changed: int, size: int, wanted: tuple[int, int] | None) -> Thumbnail | str:
    """A file's small image. Remembered, as long as the file does not change: each fold reads it again."""
    return _decoded(repr(cell), lambda: Path(cell), wanted)


def _decoded(shown: str, source: Callable[[], Any], wanted: tuple[int, int] | None) -> Thumbnail | str:
    from PIL import Image

    try:
        with opened_image(source(), shown) as image:
            size = image.size
            if wanted is not None and size != wanted:
                return size, b""
            mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
            small = image.convert("RGBA" if image.mode in ("P", "PA") else mode).convert(mode)
            if small.size != _small(size):
                small = small.resize(_small(size), Image.Resampling.BOX)
            return size, small.tobytes()
    except InputError as error:
        return str(error)


def _small(size: tuple[int, int]) -> tuple[int, int]:
    """The size that an image is brought to."""
    scale = min(1.0, _SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def n_pixels_of(size: tuple[int, int]) -> int:
    """Number of pixels of the small image."""
    width, height = _small(size)
    return width * height


def shown_size(size: tuple[int, int]) -> str:
    """A size for a message."""
    return f"{size[0]} x {size[1]} pixels"


def shown_cell(cell: str) -> str:
    """A cell for a message; of an image itself the beginning."""
    return repr(cell if len(cell) <= 60 or not cell.startswith(_INLINE) else cell[:57] + "...")
