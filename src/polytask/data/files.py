"""Files of a folder or a zip archive by name, of which nothing is in memory but the names."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from polytask.errors import DataError, InputError, RecipeError

__all__ = ["INLINE", "Files", "labels_of_names"]

INLINE = "data:"
"""How a name begins that is the file itself: ``data:image/png;base64,...``."""
_MOST_BYTES = 1 << 28
"""A file in an archive may say that it unpacks to this much; more is an attack on the memory."""
_PART = 1 << 12


class Files:
    """Files by name.

    Args:
        root: The folder from which names start, or a zip archive; ``None`` if others wrote the names, so that they
            must be the files themselves, ``data:image/png;base64,...``.

    Raises:
        DataError: If it is neither a folder nor a zip archive.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "one.wav").write_bytes(b"...")
        ...     files = Files(Path(folder))
        ...     files.names([".wav"]), files.size("one.wav")
        (['one.wav'], 3)
    """

    def __init__(self, root: Path | None):
        self.root = root
        if root is not None and not root.is_dir() and not zipfile.is_zipfile(root):
            raise DataError(f"{root} is neither a folder nor a zip archive.")

    @cached_property
    def _archive(self) -> zipfile.ZipFile | None:
        if self.root is None or self.root.is_dir():
            return None
        try:
            return zipfile.ZipFile(self.root)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
            raise DataError(f"{self.root} is no zip archive that can be read: {error}.") from error

    def names(self, endings: Sequence[str]) -> list[str]:
        """Names of all files with one of the endings, in order, however deep; nothing whose name starts with a point.

        Raises:
            DataError: If a folder, or the archive, cannot be read.
        """
        if self._archive is not None:
            found: Iterator[str] = (e.filename for e in self._archive.infolist() if not e.is_dir())
        else:
            found = _below(self.root or Path(), "", ())
        split = ((name, PurePosixPath(name)) for name in found)
        return sorted({n for n, path in split if path.suffix.lower() in endings and not _is_hidden(path)})

    def shown(self, name: str) -> str:
        """What messages call a file."""
        if name.startswith(INLINE):
            return repr(name[:57] + "...")
        return name if self.root is None else str(self.root / name)

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            InputError: If it is not there.
        """
        with self.opened(name) as file:
            return file.seek(0, io.SEEK_END)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """A file to read from.

        Raises:
            InputError: If it is not there, or may not be opened, or its archive is damaged.
        """
        try:
            with self._open(name) as file:
                yield file
        except FileNotFoundError as error:
            raise InputError(
                f"{self.shown(name)} is not there (any longer): bring it back, or leave its row out."
            ) from error
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(f"{self.shown(name)} cannot be unpacked: {error}.") from error

    def _open(self, name: str) -> IO[bytes]:
        if name.startswith(INLINE):
            return io.BytesIO(_inline(name))
        if self.root is None:
            raise InputError(
                f"Files themselves are needed here, as data:image/png;base64,... or data:audio/wav;base64,...; got "
                f"{name[:60]!r}. No path that somebody sends is opened."
            )
        if self._archive is None:
            path = self.root / name
            if path.is_dir():
                raise InputError(f"{path} is a folder, and a file is needed.")
            try:
                return path.open("rb")
            except (OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                raise InputError(f"{path} cannot be read: {error}.") from error
        try:
            entry = self._archive.getinfo(name)
        except KeyError:
            raise FileNotFoundError(name) from None
        if entry.file_size > _MOST_BYTES:
            raise InputError(f"{self.shown(name)} would unpack to {entry.file_size >> 20} MiB; split it first.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            method = entry.compress_type
            raise InputError(f"{self.shown(name)} is packed by method {method}; only 8 (deflate) is read.")
        try:
            with self._archive.open(entry) as packed:  # by small parts: what it says of its size may be a lie
                return io.BytesIO(b"".join(iter(partial(packed.read, _PART), b"")))
        except (RuntimeError, OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.shown(name)} cannot be unpacked: {error}.") from error


def _below(folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    """Names of all files below a folder; links to folders are followed, but not in circles."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = [(entry.name, entry.is_dir()) for entry in found]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}.") from error
    for name, is_folder in entries:
        if is_folder:
            yield from _below(folder / name, f"{prefix}{name}/", (*above, real))
        else:
            yield prefix + name


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") and part != ".." for part in path.parts)


def _inline(name: str) -> bytes:
    head, _, body = name.partition(",")
    try:
        raw = base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
    except (binascii.Error, ValueError):
        raw = b""
    if not raw:
        raise InputError(f"{name[:57]!r}... is not base64.")
    return raw


def labels_of_names(names: Sequence[str], pattern: str | None) -> Mapping[str, np.ndarray]:
    """What names of files say: the folder that each lies in (empty at the top), or the named groups of a pattern.

    Args:
        names: The names, folders included.
        pattern: A regular expression for the whole name of a file without folders and ending; a group that takes no
            part in a name is a missing label there.

    Raises:
        RecipeError: If the pattern is no regular expression with named groups, or a file does not match it.

    Example:
        >>> labels_of_names(["a/3_ann.wav", "b/5_bob.wav"], "(?P<digit>[0-9])_(?P<who>[a-z]+)")["who"].tolist()
        ['ann', 'bob']
        >>> labels_of_names(["a/3.wav", "b/5.wav"], None)["folder"].tolist()
        ['a', 'b']
    """
    if pattern is None:
        folders = [PurePosixPath(name).parent.name for name in names]
        return {"folder": np.array(folders, dtype=object)}
    try:
        made = re.compile(pattern)
    except re.error as error:
        raise RecipeError(f"{pattern!r} is no regular expression: {error}.") from error
    if not made.groupindex:
        raise RecipeError(f"{pattern!r} names no group; write (?P<digit>[0-9]) for what shall be the label 'digit'.")
    found: dict[str, list[str | None]] = {label: [] for label in made.groupindex}
    for name in names:
        match = made.fullmatch(PurePosixPath(name).stem)
        if match is None:
            raise RecipeError(f"The name {name!r} does not match the pattern {pattern!r}.")
        for label, values in found.items():
            values.append(match[label])
    return {label: np.array(values, dtype=object) for label, values in found.items()}
