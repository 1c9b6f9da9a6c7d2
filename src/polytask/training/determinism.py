"""The same bits from the same seed, on accelerators too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from polytask.errors import TrainingError

__all__ = ["deterministic"]


@contextmanager
def deterministic(asked: bool) -> Iterator[None]:
    """Inside, PyTorch uses deterministic algorithms only, if asked; as before afterwards.

    Args:
        asked: Whether it shall.

    Raises:
        TrainingError: If an operation of the network has no such algorithm; names it.

    Example:
        >>> with deterministic(True):
        ...     torch.are_deterministic_algorithms_enabled()
        True
        >>> torch.are_deterministic_algorithms_enabled()
        False
    """
    if not asked:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    # cuBLAS reads it when it is first used, and PyTorch refuses to go on without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error) or isinstance(error, TrainingError):
            raise
        reason = str(error).split(". ")[0]
        raise TrainingError(
            f"training.deterministic cannot be kept: {reason}. Take the setting out, or the part of the network that "
            "has no such algorithm."
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
