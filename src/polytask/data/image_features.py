"""A column of image files to numbers that say how each image looks."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from polytask.data.thumbnails import Thumbnail, n_pixels_of, shown_cell, shown_size, thumbnail_of
from polytask.errors import InputError

__all__ = ["ImageColumn"]

_MOST = 64
_SHARE = 0.95
"""Of the variance of the pixels that the kept components have together."""
_LEARNED_FROM = 5000


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
        is_grey = all(len(pixels) == n_pixels_of(size) for _, pixels in found)
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
        image = thumbnail_of(cell, self.size)
        if isinstance(image, str):
            raise ValueError(image)
        if image[0] != self.size:
            raise ValueError(f"{shown_cell(cell)} is {shown_size(image[0])}, and training had {shown_size(self.size)}")

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


def _read(name: str, values: pd.Series[Any], size: tuple[int, int] | None) -> tuple[np.ndarray, list[Thumbnail]]:
    """Which of the different images each row has, -1 for none.

    Raises:
        InputError: Naming the first rows that have no image of this size, or of the first one's.
    """
    codes, distinct = pd.factorize(values)
    found: list[Thumbnail] = []
    bad: dict[int, str] = {}
    wanted = size
    for code, cell in enumerate(distinct):
        image = thumbnail_of(str(cell), wanted)
        if isinstance(image, str):
            bad[code] = image
            continue
        wanted = wanted or image[0]
        if image[0] != wanted:
            bad[code] = f"{shown_cell(str(cell))} is {shown_size(image[0])}"
        found.append(image)
    if bad:
        rows = [row for row in range(len(codes)) if codes[row] in bad]
        some = "; ".join(f"row {values.index[row]}: {bad[codes[row]]}" for row in rows[:3])
        more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
        whose = (
            "of one size"
            if wanted is None
            else f"of {shown_size(wanted)}, as the {'first' if size is None else 'training'} ones"
        )
        raise InputError(
            f"Column {name!r} needs images {whose}; {some}{more}. Replace these files, or leave the cells empty.", name
        )
    return codes, found


def _numbers(image: Thumbnail, is_grey: bool) -> np.ndarray:
    """Pixels in 0 to 1, flat; colours to grey, or grey to colours, if need be."""
    pixels = np.frombuffer(image[1], dtype=np.uint8).astype(np.float32) / 255
    n_pixels = n_pixels_of(image[0])
    if len(pixels) == n_pixels:
        return pixels if is_grey else np.repeat(pixels, 3)
    if not is_grey:
        return pixels
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of ITU-R 601, as Pillow turns colours to grey
    grey: np.ndarray = pixels.reshape(-1, 3) @ luma
    return grey


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)
