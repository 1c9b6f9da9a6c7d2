"""One hash of all that decides what data say: texts, numbers, labels, settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from polytask.shapes import Tensor

__all__ = ["digest_of"]


def digest_of(*parts: Any) -> str:
    """A SHA-256 of values and their order: arrays, tensors, texts, numbers, and lists and mappings of them.

    Example:
        >>> digest_of(["a", "b"]) == digest_of(["ab"]), digest_of({"x": [1, None]}) == digest_of({"x": [1, None]})
        (False, True)
    """
    digest = hashlib.sha256()
    _add(digest, list(parts))
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Each value behind its sort and length, so that no two values are written alike."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value  # which numpy does not know
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        value = value.tolist()
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)}\n".encode())
        for key, one in value.items():
            _add(digest, str(key))
            _add(digest, one)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}\n".encode())
        for one in value:
            _add(digest, one)
    else:
        written = value if isinstance(value, str) else repr(value.item() if isinstance(value, np.generic) else value)
        content = written.encode("utf-8", "surrogatepass")
        digest.update(f"{type(value).__name__} {len(content)}\n".encode() + content)
