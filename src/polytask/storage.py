"""Files that are whole or not there: atomic writing, and trees of tensors without pickle."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.errors import StorageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = [
    "FolderLock",
    "append_text",
    "is_half",
    "load_tree",
    "remove_halves",
    "save_tree",
    "sha256",
    "whole_file",
    "write_json",
    "write_text",
]

_TREE = "polytask.tree"
_HALF = ".half-"
"""In the names of files that are being written, and of those that a killed process left so."""
_LEFT = re.compile(rf"\..*{re.escape(_HALF)}|\.tmp[A-Za-z0-9]{{6}}$")
"""Names of half-written files: ours, and those that safetensors makes beside a file before it renames them."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, of the same ending, that takes its place when the block ends without an error.

    Raises:
        StorageError: If the disk is full or the folder cannot be written; names the file and the space that is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}{_HALF}", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise StorageError(_reason(path, error)) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except StorageError:
        raise  # of another file that was written within the block, and that it names
    except OSError as error:
        raise StorageError(_reason(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


class FolderLock:
    """Keeps a folder for one writer. It ends with the process, however that ends: nothing has to be tidied up.

    Args:
        folder: The folder, which is made if it is not there.

    Raises:
        BlockingIOError: If another writer has the folder.
        StorageError: If the folder cannot be written.

    Note:
        What counts is who holds the file ``.lock``, not that it is there. On a file system without locks the folder is
        not kept, and a warning says so.
    """

    def __init__(self, folder: Path):
        path = folder / ".lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = _held(path)
            # Whoever had it before may have taken the file away between the opening and the locking.
            while not path.exists() or path.stat().st_ino != os.fstat(handle).st_ino:
                os.close(handle)
                handle = _held(path)
        except BlockingIOError:
            raise
        except OSError as error:
            raise StorageError(_reason(path, error)) from error
        self.release = weakref.finalize(self, _let_go, path, handle)
        """Lets others have the folder."""


def _held(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            os.close(handle)
            raise
        words = f"The file system of {path.parent} has no locks: see to it that one process writes there."
        warnings.warn(words, stacklevel=4)
    return handle


def _let_go(path: Path, handle: int) -> None:
    path.unlink(missing_ok=True)
    os.close(handle)


def _reason(path: Path, error: OSError) -> str:
    why = str(error.strerror or error).rstrip(".")
    there = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    free = shutil.disk_usage(there).free
    if isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError):
        way = next((folder for folder in path.absolute().parents if folder.exists()), Path("/"))
        what = "is a file, no folder" if not way.is_dir() else "takes no new folder"
        return f"Cannot write {path}: {way} {what}. Choose another place."
    return (
        f"Cannot write {path}: {why}. What was there before is untouched; {free / 1e6:,.1f} MB are free in {there}. "
        "Make room or get the right to write, and go on."
    )


def remove_halves(folder: Path, name: str = "") -> None:
    """Remove what a process that was killed left half written.

    Args:
        folder: A folder that no other process writes to now, with all that are in it.
        name: A file in the folder: then only what was to become that file.
    """
    pattern = f".{glob.escape(Path(name).stem)}{_HALF}*" if name else "**/.*"
    for left in [*folder.glob(pattern)]:
        if is_half(left):
            left.unlink(missing_ok=True)


def is_half(path: Path) -> bool:
    """Whether a file is one that is being written, or was when its process was killed."""
    return _LEFT.match(path.name) is not None


def append_text(path: str | Path, text: str) -> None:
    """Add to a text file and flush it to the disk; what was added may be cut short if the process is killed.

    Raises:
        StorageError: If the disk is full or the folder cannot be written.
    """
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(_reason(Path(path), error)) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file: written, flushed to the disk and renamed, so that a reader never sees half of it.

    Raises:
        StorageError: If the disk is full or the folder cannot be written.
    """
    with whole_file(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON as :func:`write_text` does; refuses values that JSON has no standard form for."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sha256(path: str | Path) -> str:
    """Checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def save_tree(path: str | Path, tree: Any) -> None:
    """Save nested dicts, lists and tuples of tensors, arrays and JSON values in one safetensors file.

    Raises:
        StorageError: If it cannot be written.
        TypeError: If a leaf is none of these.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_tree(f"{folder}/state", {"step": 3, "w": torch.ones(2), 7: [True, None]})
        ...     load_tree(f"{folder}/state")
        {'step': 3, 'w': tensor([1., 1.]), 7: [True, None]}
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    packed = json.dumps(_pack(tree, tensors), ensure_ascii=False)
    with whole_file(Path(path)) as temporary:
        try:
            save_file(tensors, temporary, metadata={_TREE: packed})
        except Exception as error:
            # safetensors reports a full disk as an error of its own that is no OSError.
            if "os error" in str(error).lower():
                raise OSError(str(error)) from error
            raise


def load_tree(path: str | Path) -> Any:
    """Read what :func:`save_tree` wrote; runs no code of the file.

    Raises:
        StorageError: If the file is missing, truncated, or not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if _TREE not in metadata:
                raise StorageError(f"{path} is a safetensors file, but not one that polytask wrote.")
            return _unpack(json.loads(metadata[_TREE]), {key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise StorageError(f"{path} is damaged or not a polytask file: {error}") from error
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist.") from error


def _pack(node: Any, tensors: dict[str, Tensor]) -> Any:
    import numpy as np
    import torch

    if isinstance(node, torch.Tensor | np.ndarray):
        key = str(len(tensors))
        if isinstance(node, np.ndarray):
            tensors[key] = _from_array(node)
            return {"array": key}
        # A copy, because safetensors refuses tensors that share memory.
        tensors[key] = node.detach().cpu().clone().contiguous()
        return {"tensor": key}
    if isinstance(node, Mapping):
        return {"dict": [[key, _pack(value, tensors)] for key, value in node.items()]}
    if isinstance(node, tuple):
        return {"tuple": [_pack(value, tensors) for value in node]}
    if isinstance(node, list):
        return {"list": [_pack(value, tensors) for value in node]}
    if node is None or isinstance(node, str | bool | int | float):
        return node
    raise TypeError(f"A {type(node).__name__} cannot be saved; only tensors, arrays and JSON values can.")


def _from_array(array: np.ndarray) -> Tensor:
    import numpy as np
    import torch

    if array.dtype.kind not in "biuf":
        raise TypeError(f"An array of {array.dtype} cannot be saved; only numbers can.")
    return torch.from_numpy(np.array(array, order="C"))


def _unpack(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    kind, value = next(iter(node.items()))
    if kind == "tensor":
        return tensors[value]
    if kind == "array":
        return tensors[value].numpy()
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in value}
    if kind == "tuple":
        return tuple(_unpack(item, tensors) for item in value)
    if kind == "list":
        return [_unpack(item, tensors) for item in value]
    raise KeyError(kind)
