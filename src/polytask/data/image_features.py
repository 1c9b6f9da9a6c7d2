"""A column of image files to numbers that say how each image looks."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from polytask.data.images import opened_image
from polytask.errors import InputError

__all__ = ["ENDINGS", "ImageColumn", "contents", "is_image_file", "located"]

_SIDE = 32
"""Images are brought to at most so many pixels a side before anything is learned of them."""
_MOST = 64
_SHARE = 0.95
"""Of the variance of the pixels that the kept components have together."""
_LEARNED_FROM = 5000
_REMEMBERED = 50_000
_INLINE = "data:image/"
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")

_Thumbnail: TypeAlias = tuple[tuple[int, int], bytes]
"""Size of the image, and the bytes ``[h, w]`` or ``[h, w, 3]`` of the small one."""


@dataclass(frozen=True)
class ImageColumn:
    """A column of image files as principal components of their pixels, zeros where there is none.

    All images need one size. They are made smaller, to at most 32 pixels a side, and grey if all training images are;
    kept are the components that have 95 % of the variance together, 64 at most, each with deviation 1.

    Args:
        name: The column.
        size: Width and height of the images.
        is_grey: Whether colours are not looked at.
        mean: Mean of the training images, ``[D]``.
        components: Directions, over the deviation along each, ``[K, D]``.

    Note:
        A cell is a path, relative to the folder of the table (of a data frame, to the working directory), or holds the
        image itself: ``data:image/png;base64,...``. Every model of a study reads these numbers. Where the images are
        all that is to be read, a convolutional encoder sees more in them: :func:`~polytask.data.read_image_folder` and
        :class:`~polytask.training.data_sets.ArrayData`.

    References:
        Turk and Pentland, Eigenfaces for Recognition, Journal of Cognitive Neuroscience 3, 1991.
    """

    name: str
    size: tuple[int, int]
    is_grey: bool
    mean: np.ndarray = field(repr=False, compare=False)
    components: np.ndarray = field(repr=False, compare=False)

    @property
    def bits(self) -> range:
        """Numbers of the components."""
        return range(len(self.components))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the components."""
        return tuple(f"{self.name} (component {k + 1})" for k in self.bits)

    @classmethod
    def fit(cls, name: str, values: pd.Series[Any]) -> ImageColumn:
        """Learn size and components from the training rows.

        Raises:
            InputError: If an image cannot be read, or has another size than the first; names the row.
            MissingExtraError: If Pillow is not installed.
        """
        from sklearn.decomposition import PCA

        present = values.dropna()
        some = np.unique(np.linspace(0, len(present) - 1, min(len(present), _LEARNED_FROM)).astype(int))
        codes, found = _read(name, present, None)
        size = found[codes[0]][0]
        is_grey = all(len(pixels) == _n_pixels(size) for _, pixels in found)
        table = np.stack([_numbers(found[code], is_grey) for code in codes[some]]).astype(np.float64)
        if len(table) < 2 or bool((table == table[0]).all()):
            return cls(name, size, is_grey, table.mean(0), np.zeros((0, table.shape[1])))
        learned = PCA(min(_MOST, *table.shape), random_state=0).fit(table)
        before = np.cumsum(learned.explained_variance_ratio_) - learned.explained_variance_ratio_
        kept = (before < _SHARE) & (learned.explained_variance_ > 1e-10)
        scaled = learned.components_[kept] / np.sqrt(learned.explained_variance_[kept])[:, None]
        return cls(name, size, is_grey, learned.mean_.astype(np.float32), scaled.astype(np.float32))

    def encode(self, values: pd.Series[Any], out: np.ndarray) -> None:
        """Write the components into ``out``, ``[N, K]``.

        Raises:
            InputError: If an image cannot be read, or has another size than in training; names the row.
        """
        codes, found = _read(self.name, values, self.size)
        made = np.zeros((len(found) + 1, len(self.components)), dtype=np.float32)
        for row, image in enumerate(found):  # the last row is where the -1 of a missing value points
            made[row] = self.components @ (_numbers(image, self.is_grey) - self.mean)
        out[:] = made[codes]

    def check(self, cell: str) -> None:
        """Raise if a cell does not hold an image of the size of training; one of another size is not decoded.

        Raises:
            ValueError: If so.
        """
        image = _thumbnail(cell, self.size)
        if isinstance(image, str):
            raise ValueError(image)
        if image[0] != self.size:
            raise ValueError(f"{_shown(cell)} is {_times(image[0])}, and training had {_times(self.size)}")

    def state(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; arrays as the bytes of float32."""
        return {
            "kind": "image",
            "name": self.name,
            "size": list(self.size),
            "is_grey": self.is_grey,
            "mean": _packed(self.mean),
            "components": _packed(self.components),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ImageColumn:
        """Take back what :meth:`state` gave."""
        width, height = state["size"]
        mean = _unpacked(state["mean"])
        return cls(
            state["name"],
            (width, height),
            state["is_grey"],
            mean,
            _unpacked(state["components"]).reshape(-1, len(mean)),
        )


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
                f"Column {name!r} needs images themselves here, as data:image/png;base64,...; got {_shown(text)}. No "
                "path that somebody sends is opened.",
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
        image = _thumbnail(str(cell))
        table.append(
            str(cell) if isinstance(image, str) else hashlib.sha256(repr(image[0]).encode() + image[1]).hexdigest()
        )
    table.append(None)
    return [table[code] for code in codes]


def _read(name: str, values: pd.Series[Any], size: tuple[int, int] | None) -> tuple[np.ndarray, list[_Thumbnail]]:
    """Which of the different images each row has, -1 for none.

    Raises:
        InputError: Naming the first rows that have no image of this size, or of the first one's.
    """
    codes, distinct = pd.factorize(values)
    found: list[_Thumbnail] = []
    bad: dict[int, str] = {}
    wanted = size
    for code, cell in enumerate(distinct):
        image = _thumbnail(str(cell), wanted)
        if isinstance(image, str):
            bad[code] = image
            continue
        wanted = wanted or image[0]
        if image[0] != wanted:
            bad[code] = f"{_shown(str(cell))} is {_times(image[0])}"
        found.append(image)
    if bad:
        rows = [row for row in range(len(codes)) if codes[row] in bad]
        some = "; ".join(f"row {values.index[row]}: {bad[codes[row]]}" for row in rows[:3])
        more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
        whose = (
            "of one size"
            if wanted is None
            else f"of {_times(wanted)}, as the {'first' if size is None else 'training'} ones"
        )
        raise InputError(
            f"Column {name!r} needs images {whose}; {some}{more}. Mend these files, or empty the cells.", name
        )
    return codes, found


def _thumbnail(cell: str, wanted: tuple[int, int] | None = None) -> _Thumbnail | str:
    """The small image, or what is wrong with it; without its pixels if it has not the size that is wanted."""
    if cell.startswith(_INLINE):
        head, _, body = cell.partition(",")
        try:
            raw = base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
        except (binascii.Error, ValueError):
            raw = b""
        return _decoded(_shown(cell), lambda: io.BytesIO(raw), wanted) if raw else f"{_shown(cell)} is not base64"
    path = Path(cell)
    try:
        told = path.stat()
    except (OSError, ValueError):
        return f"{cell!r} is not there"
    return _remembered(cell, told.st_mtime_ns, told.st_size, wanted) if path.is_file() else f"{cell!r} is no file"


@lru_cache(maxsize=_REMEMBERED)
def _remembered(cell: str, changed: int, size: int, wanted: tuple[int, int] | None) -> _Thumbnail | str:
    """A file's small image. Remembered, as long as the file does not change: each fold reads it again."""
    return _decoded(repr(cell), lambda: Path(cell), wanted)


def _decoded(shown: str, source: Callable[[], Any], wanted: tuple[int, int] | None) -> _Thumbnail | str:
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


def _n_pixels(size: tuple[int, int]) -> int:
    width, height = _small(size)
    return width * height


def _numbers(image: _Thumbnail, is_grey: bool) -> np.ndarray:
    """Pixels in 0 to 1, flat; colours to grey, or grey to colours, if need be."""
    pixels = np.frombuffer(image[1], dtype=np.uint8).astype(np.float32) / 255
    n_pixels = _n_pixels(image[0])
    if len(pixels) == n_pixels:
        return pixels if is_grey else np.repeat(pixels, 3)
    if not is_grey:
        return pixels
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of ITU-R 601, as Pillow turns colours to grey
    grey: np.ndarray = pixels.reshape(-1, 3) @ luma
    return grey


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 60 or not cell.startswith(_INLINE) else cell[:57] + "...")


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)
