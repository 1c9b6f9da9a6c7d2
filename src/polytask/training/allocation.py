"""Memory that one step gives back stays with the process, because the next step takes it again."""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
_KEPT = 256 * 2**20
_LARGEST = 32 * 2**20
"""The most that every version of the GNU C library takes."""


def keep_freed_memory() -> bool:
    """Let the process keep up to 256 MiB of freed memory for its next step; returns whether it does now.

    A training step allocates the same tensors as the step before and frees them all. The GNU C library gives them
    back to the system at the end of each step, and the system then has to clear each page anew: a quarter of the
    CPU time of a stack of trainings. Tensors of more than 32 MiB go back as before. Other C libraries, and a process
    whose user has set these thresholds in the environment, are left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - other libraries have a mallopt that means something else
        return bool(library.mallopt(_TRIM_THRESHOLD, _KEPT)) and bool(library.mallopt(_MMAP_THRESHOLD, _LARGEST))
    except (OSError, TypeError, AttributeError):  # not linked against it: macOS, musl, Windows
        return False
