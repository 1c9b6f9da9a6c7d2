"""Images from folders and from IDX files, as 8-bit arrays."""

from __future__ import annotations

import gzip
import math
import os
import string
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polytask.errors import DataError, InputError, MissingExtraError, RecipeError, TargetError

__all__ = ["GREY_MODES", "ImageFolder", "opened_image", "read_idx", "read_idx_images", "read_image_folder"]

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_EXTENSIONS = {".png", ".jpg", ".jpeg"}
GREY_MODES = {"1", "L"}
"""Modes of images that have no colours, as Pillow names them."""
_DEEP_MODES = {"I", "F"}
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
"""What is decoded; others run programs (PostScript) or have decoders that few have looked at."""
_MOST_PIXELS = 64_000_000


@dataclass(frozen=True)
class ImageFolder:
    """Images with the names of their classes.

    Args:
        images: uint8 ``[N, C, H, W]``, C being 1 (grey) or 3 (colours).
        labels: ``[N]``, the name of the subfolder.
        files: Path of each image.
    """

    images: np.ndarray
    labels: np.ndarray
    files: tuple[Path, ...]


def read_image_folder(folder: str | os.PathLike[str]) -> ImageFolder:
    """Read a folder that has a subfolder of PNG or JPEG files for each class.

    Images are grey if all of them are, and have three colours otherwise. Files that start with a point, and files
    with other extensions, are passed over.

    Raises:
        DataError: If there is no such folder, or no image in it.
        InputError: If an image has another size than the first, or cannot be read; names the file.
        MissingExtraError: If Pillow is not installed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"No folder named {str(root)!r}.")
    files = tuple(
        path
        for inner in sorted(path for path in root.iterdir() if path.is_dir())
        for path in sorted(inner.rglob("*"))
        if path.suffix.lower() in _EXTENSIONS and not path.name.startswith(".")
    )
    if not files:
        raise DataError(f"{root} has no PNG or JPEG file in a subfolder; a subfolder for each class is needed.")
    size, is_grey = _sizes(files)
    mode = "L" if is_grey else "RGB"
    images = np.empty((len(files), 1 if is_grey else 3, size[1], size[0]), dtype=np.uint8)
    for i, path in enumerate(files):
        with opened_image(path) as image:
            pixels = np.asarray(image.convert(mode))
        images[i] = pixels[None] if is_grey else pixels.transpose(2, 0, 1)
    labels = np.array([path.relative_to(root).parts[0] for path in files], dtype=object)
    return ImageFolder(images, labels, files)


def _sizes(files: tuple[Path, ...]) -> tuple[tuple[int, int], bool]:
    """The common size (width, height), and whether all images are grey; reads the headers only."""
    first: tuple[int, int] | None = None
    is_grey = True
    for path in files:
        with opened_image(path) as image:
            size, is_grey = image.size, is_grey and image.mode in GREY_MODES
        first = first or size
        if size != first:
            raise InputError(
                f"{path} is {size[0]} x {size[1]} pixels, but {files[0].name} is {first[0]} x {first[1]}. "
                "All images of a source need the same size: crop or scale them first."
            )
    return first or (0, 0), is_grey


class opened_image:
    """An image file, for a ``with`` block; what goes wrong with it is an :class:`InputError` that names it.

    Args:
        source: Its path, or a file of bytes.
        shown: What messages call it; the path if left out.

    Raises:
        InputError: If it is no PNG, JPEG, GIF, BMP, WebP or TIFF file that can be read, has more than 8 bits a pixel or
            more than 64 million pixels. Nothing but its header is decoded before its size is known.
        MissingExtraError: If Pillow is not installed.
    """

    def __init__(self, source: Any, shown: str | None = None):
        try:
            from PIL import Image, UnidentifiedImageError
        except ImportError as error:
            raise MissingExtraError("reading image files", "pillow", "images") from error
        self._shown = str(source) if shown is None else shown
        # A damaged file makes decoders fail in any of these ways.
        self._wrong = (
            OSError,
            SyntaxError,
            ValueError,
            LookupError,
            RuntimeError,
            struct.error,
            zlib.error,
            Image.DecompressionBombError,
        )
        try:
            self._image: Any = Image.open(source, formats=_FORMATS)
        except UnidentifiedImageError as error:  # its text shows an object of Python's
            known = ", ".join(_FORMATS)
            raise InputError(
                f"{self._shown} is not an image that can be read: its content is none of {known}."
            ) from error
        except self._wrong as error:
            raise InputError(f"{self._shown} is not an image that can be read: {error}") from error
        width, height = self._image.size
        if width * height > _MOST_PIXELS:
            self._image.close()
            raise InputError(f"{self._shown} has {width:,} x {height:,} pixels, more than {_MOST_PIXELS:,}.")
        if self._image.mode in _DEEP_MODES or self._image.mode.startswith("I;"):
            mode = self._image.mode
            self._image.close()
            raise InputError(
                f"{self._shown} has more than 8 bits a pixel (mode {mode}), which would be cut off. Bring it to 8 bits."
            )

    def __enter__(self) -> Any:
        return self._image

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._image.close()
        if isinstance(error, self._wrong) and not isinstance(error, DataError):
            raise InputError(f"{self._shown} is not an image that can be read: {error}") from error


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, gzip or not: the format of the MNIST family.

    Raises:
        DataError: If there is no such file, it is no IDX file, or it is shorter or longer than it says.

    References:
        LeCun, Cortes, Burges, "The MNIST database of handwritten digits": file formats.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"No file named {str(file)!r}.")
    raw = file.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{file} is a damaged or truncated gzip file: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or raw[3] == 0:
        raise DataError(f"{file} is not an IDX file: it does not start with two zero bytes, a type and a dimension.")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise DataError(f"{file} is truncated: its header says {raw[3]} dimensions, whose sizes are missing.")
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    dtype = np.dtype(_IDX_TYPES[raw[2]])
    wanted, found = math.prod(shape) * dtype.itemsize, len(raw) - start
    if found != wanted:
        fault = "is truncated" if found < wanted else "is longer than it says"
        raise DataError(f"{file} {fault}: shape {shape} needs {wanted} bytes, it has {found}.")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_images(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    layout: Literal["mnist", "emnist_digits", "emnist_letters"] = "mnist",
) -> tuple[np.ndarray, np.ndarray]:
    """Read a pair of IDX files as images ``[N, 1, H, W]`` (uint8) and labels ``[N]``.

    Args:
        images: File of 8-bit images.
        labels: File of labels.
        layout: ``mnist``: as it is; ``emnist_digits``: images are stored transposed; ``emnist_letters``: so too, and
            the labels 1 to 26 are returned as ``A`` to ``Z``.

    Raises:
        DataError: If a file is damaged, or they differ in their number of rows.
        InputError: If the first file has no 8-bit images.
        TargetError: If a label is out of range.

    References:
        Cohen, Afshar, Tapson, van Schaik (2017), "EMNIST: an extension of MNIST to handwritten letters".
    """
    if layout not in ("mnist", "emnist_digits", "emnist_letters"):
        raise RecipeError(f"No layout named {layout!r}. Known: mnist, emnist_digits, emnist_letters.")
    pixels, names = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise InputError(f"{images} needs 8-bit images [N, H, W], got {pixels.dtype} {list(pixels.shape)}.")
    if names.ndim != 1 or len(names) != len(pixels):
        raise DataError(f"{images} has {len(pixels)} images, but {labels} has labels of shape {list(names.shape)}.")
    if layout != "mnist":
        pixels = pixels.transpose(0, 2, 1)
    if layout == "emnist_letters":
        wrong = np.flatnonzero((names < 1) | (names > 26))
        if len(wrong):
            raise TargetError(f"{labels}: letters are labelled 1 to 26, but row {wrong[0]} has {names[wrong[0]]}.")
        return np.ascontiguousarray(pixels)[:, None], np.array(list(string.ascii_uppercase), dtype=object)[names - 1]
    return np.ascontiguousarray(pixels)[:, None], names.astype(np.int64)
