"""What has another name now: the old one works until a version that is named, and says so.

The policy is in ``docs/reference/versions.md``. A test reads every ending, in :data:`METHODS` and in the calls of
:func:`warn_deprecated`, and fails once this version has reached it, so that nothing old outlives its promise.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["METHODS", "Renamed", "current_name", "is_old_name", "warn_deprecated"]


@dataclass(frozen=True)
class Renamed:
    """What an old name is called now, and the version in which the old one ends.

    Args:
        new: The name to use.
        ends: The version that no longer knows the old one: ``0.3.0``.
    """

    new: str
    ends: str


METHODS: Mapping[tuple[str, str], Renamed] = {}
"""Methods that were renamed, by role and old name: ``("balancer", "nash"): Renamed("nash_mtl", ends="0.3.0")``."""


def warn_deprecated(old: str, *, instead: str, ends: str, stacklevel: int = 2) -> None:
    """Warns whoever uses an old name, key or option.

    A ``FutureWarning``, because Python hides a ``DeprecationWarning`` from those who use a program and do not write it.

    Args:
        old: What was used, as the user wrote it.
        instead: What to use.
        ends: The version that no longer has the old one, written out, so that the test finds it.
        stacklevel: As in :func:`warnings.warn`, seen from the caller of this function.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_deprecated("training.patience_factor", instead="training.patience_share", ends="0.3.0")
        >>> print(caught[0].message)
        training.patience_factor is deprecated and ends in polytask 0.3.0. Use training.patience_share instead.
    """
    message = f"{old} is deprecated and ends in polytask {ends}. Use {instead} instead."
    warnings.warn(message, FutureWarning, stacklevel=stacklevel + 1)


def is_old_name(role: str, name: str) -> bool:
    """Whether a method had that name once and still answers to it."""
    return (role, name) in METHODS


def current_name(role: str, name: str) -> str:
    """The name of a method today; an old one is said to be old.

    Args:
        role: What the method is: ``balancer``.
        name: What was asked for.
    """
    renamed = METHODS.get((role, name))
    if renamed is None:
        return name
    warn_deprecated(f"The {role} name {name!r}", instead=repr(renamed.new), ends=renamed.ends, stacklevel=4)
    return renamed.new
