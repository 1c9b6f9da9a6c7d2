"""So many threads and no more, whatever computes: sums of floating-point numbers depend on how they are divided."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["limited_threads", "n_cores"]

_JOBS = "LOKY_MAX_CPU_COUNT"
"""What joblib takes for the number of cores."""


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Inside, PyTorch, the linear algebra libraries, OpenMP and joblib use this many threads each.

    What asks joblib for all cores gets threads and no processes, which a worker must not have and is warned of.

    Args:
        threads: At least 1.
    """
    import sklearn.ensemble  # noqa: F401  its OpenMP must be there to be limited
    import torch
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    before, jobs = torch.get_num_threads(), os.environ.get(_JOBS)
    os.environ[_JOBS] = str(threads)
    try:
        with threadpool_limits(threads), parallel_config("threading"):
            torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(before)
        os.environ.pop(_JOBS)
        if jobs is not None:
            os.environ[_JOBS] = jobs
